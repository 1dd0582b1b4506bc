"""Copy a state to another database."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Column, Connection, Table, func, insert, select

from connector.clock import plain
from connector.errors import ConfigurationError
from connector.state import privacy
from connector.state.columns import Moment
from connector.state.engine import Database
from connector.state.schema import HEAD
from connector.state.tables import (
    PREFIX,
    accounts,
    backfills,
    connections,
    keys,
    leases,
    metadata,
    readings,
    refusals,
    rows,
    runs,
    spends,
    streams,
)
from connector.state.upserts import add, keep_larger

FORMAT = "beamer-segment state 1"
GROUP = 500
# These give their rows numbers that other rows name.
NUMBERED = {streams.name: "scope", runs.name: "id", backfills.name: "id"}
# Which columns of which tables name such a number.
NAMES_SCOPE, NAMES_RUN, NAMES_BACKFILL = "scope", "run", "backfill"


class Damaged(ConfigurationError):
    """A file that is not whole, or none of ours."""

    code = "BS-080"
    default_means = "Nothing was imported."
    default_todo = "Export the state again."


def export(database: Database, connection: str, file: IO[str]) -> Counter[str]:
    """Write a connection's state; give how many rows of each table. The caller holds its leases."""
    counted: Counter[str] = Counter()
    digest = hashlib.sha256()

    def line(value: Any) -> None:
        text = json.dumps(value, separators=(",", ":")) + "\n"
        digest.update(text.encode())
        file.write(text)

    line({"format": FORMAT, "schema": HEAD, "connection": connection})
    with database.read() as db:
        for table in _tables():
            names = [column.name for column in table.c]
            for group in _groups(db, table, connection):
                line({"table": table.name.removeprefix(PREFIX), "columns": names, "rows": group})
                counted[table.name.removeprefix(PREFIX)] += len(group)
    file.write(json.dumps({"rows": dict(counted), "sha256": digest.hexdigest()}) + "\n")
    return counted


def _tables() -> list[Table]:
    """Those that name others come behind them; leases and refused keys are of no use elsewhere."""
    first = [connections, accounts, keys, streams, runs, backfills]
    rest = [table for table in metadata.sorted_tables if table not in [*first, leases, refusals]]
    return [*first, *rest]


def _groups(db: Connection, table: Table, connection: str) -> Iterator[list[list[Any]]]:
    order = list(table.primary_key.columns)
    query = select(table).where(_mine(table, connection)).order_by(*order)
    found = db.execution_options(yield_per=GROUP).execute(query)
    for group in found.partitions(GROUP):
        yield [[plain(value) for value in row] for row in group]


def _mine(table: Table, connection: str) -> Any:
    account = select(connections.c.account).where(connections.c.name == connection).scalar_subquery()
    if table is connections:
        return table.c.name == connection
    if table is accounts:
        return table.c.name == account
    if table is spends:
        return table.c.account == account
    if table is keys:
        return table.c.name == privacy.KEY
    if "connection" in table.c:
        return table.c.connection == connection
    if table is readings:
        return table.c.backfill.in_(select(backfills.c.id).where(backfills.c.connection == connection))
    return table.c.scope.in_(select(streams.c.scope).where(streams.c.connection == connection))


# --- reading it ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Numbers:
    """What the numbers of the file are called here."""

    of: dict[str, dict[int, int]] = field(default_factory=lambda: {name: {} for name in NUMBERED})

    def __call__(self, column: Column[Any], value: Any) -> Any:
        if value is None:
            return None
        if column.name == NAMES_SCOPE and column.table is not streams:
            return self.of[streams.name][value]
        if column.name == NAMES_RUN and column.table is rows:
            # A run is kept for 30 days, and the number of one that is gone names none.
            return self.of[runs.name].get(value, 0)
        if column.name == NAMES_BACKFILL and column.table is readings:
            return self.of[backfills.name][value]
        return datetime.fromisoformat(value) if isinstance(column.type, Moment) else value


def verified(lines: Iterable[str]) -> tuple[str, Counter[str]]:
    """Read a file through; give its connection and how many rows it holds of each table.

    Raises Damaged where it is not whole, ConfigurationError where it is of another version.
    """
    digest, counted, head, last = hashlib.sha256(), Counter[str](), None, None
    for text in lines:
        if last is not None:
            raise Damaged("The file continues after its end mark.")
        value = _parsed(text)
        if "sha256" in value:
            last = value
            continue
        digest.update(text.encode())
        if head is None:
            head = _head(value)
        else:
            counted[str(value.get("table"))] += len(value.get("rows", ()))
    if head is None or last is None:
        raise Damaged("The file has no end mark: the export was cut short, or this is not an export.")
    if last["sha256"] != digest.hexdigest() or last["rows"] != dict(counted):
        raise Damaged("The file was changed: its checksum does not match.")
    return head, counted


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Damaged("This is not an exported state.")
    return value


def _head(value: Mapping[str, Any]) -> str:
    if value.get("format") != FORMAT:
        raise Damaged("This is not an exported state.")
    if value.get("schema") != HEAD:
        raise ConfigurationError(
            f"The state was exported at revision {value.get('schema')}; this version needs {HEAD}.",
            todo="Export it with the same version that imports it.",
        )
    return str(value["connection"])


def load(database: Database, lines: Iterable[str], connection: str) -> Counter[str]:
    """Write a verified file's state, all of it or nothing; give how many rows of each table are new.

    An account and what it spent may be here already, by another connection: what is here is kept. Raises
    ConfigurationError where the connection has state here.
    """
    by_name = {table.name.removeprefix(PREFIX): table for table in _tables()}
    numbers, counted = _Numbers(), Counter[str]()
    with database.write() as db:
        _refuse_known(db, connection)
        for text in lines:
            value = json.loads(text)
            if "table" not in value:
                continue
            table = by_name[value["table"]]
            new = [_row(table, value["columns"], row, numbers) for row in value["rows"]]
            if table is keys:
                _same_keys(db, new)
            counted[value["table"]] += _write(db, table, new, numbers)
    return counted


def _refuse_known(db: Connection, connection: str) -> None:
    query = select(func.count()).select_from(connections).where(connections.c.name == connection)
    if db.execute(query).scalar_one():
        raise ConfigurationError(
            f"This database already holds state of connection '{connection}'.",
            means="Nothing was imported.",
            todo="Import into a database without this connection; two states cannot be merged.",
        )


def _row(table: Table, names: Sequence[str], values: Sequence[Any], numbers: _Numbers) -> dict[str, Any]:
    here = {name: value for name, value in zip(names, values, strict=True) if name in table.c}
    return {name: numbers(table.c[name], value) for name, value in here.items()}


def _same_keys(db: Connection, new: Sequence[Mapping[str, Any]]) -> None:
    """The digests of forgotten people are good with their own key only."""
    held = {row.name: row.value for row in db.execute(select(keys))}
    if any(held.get(row["name"], row["value"]) != row["value"] for row in new):
        raise ConfigurationError(
            "This database has its own key for the digests of forgotten people.",
            means="Nothing was imported: with that key, the imported connection could not recognise its "
            "forgotten people.",
            todo="Import into an empty database.",
        )


def _write(db: Connection, table: Table, new: list[dict[str, Any]], numbers: _Numbers) -> int:
    if table.name in NUMBERED:
        number = NUMBERED[table.name]
        before = [row.pop(number) for row in new]
        after = db.scalars(insert(table).returning(table.c[number], sort_by_parameter_order=True), new)
        numbers.of[table.name].update(zip(before, after, strict=True))
        return len(new)
    serial = "id" in table.c and len(table.primary_key.columns) == 1
    if serial and isinstance(table.c.id.type, type(runs.c.id.type)):
        for row in new:
            row.pop("id")
    if table is spends:
        # An account that another connection has brought along: of two counts the later one is larger.
        keep_larger(db, table, new, "requests")
    else:
        add(db, table, new)
    return len(new)

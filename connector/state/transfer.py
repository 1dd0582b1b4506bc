"""Copy the state of one connection to another database, through a file."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Column, Connection, Table, exists, insert, select

from connector.clock import plain
from connector.errors import ConfigurationError
from connector.state import privacy
from connector.state.columns import Moment
from connector.state.dialects import add, keep_larger
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
    paces,
    refusals,
    runs,
    spends,
    streams,
)

FORMAT = "beamer-segment state 1"
GROUP = 500
# Columns whose names refer to a numbered row of another table, which gets a new number on import.
REFERENCES = {"scope": streams, "run": runs, "backfill": backfills}
Numbers = Mapping[Table, dict[int, int]]


class Damaged(ConfigurationError):
    """Raised for a file that is incomplete, or not an export."""

    code = "BS-080"
    default_means = "Nothing was imported."
    default_todo = "Export the state again."


def export(database: Database, connection: str, file: IO[str]) -> Counter[str]:
    """Write a connection's state; return how many rows of each table. The caller holds its leases."""
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()

    def line(value: Any) -> None:
        text = json.dumps(value, separators=(",", ":")) + "\n"
        digest.update(text.encode())
        file.write(text)

    line({"format": FORMAT, "schema": HEAD, "connection": connection})
    with database.read() as db:
        for table in _tables():
            name = table.name.removeprefix(PREFIX)
            for group in _groups(db, table, connection):
                line({"table": name, "columns": table.c.keys(), "rows": group})
                counts[name] += len(group)
    file.write(json.dumps({"rows": dict(counts), "sha256": digest.hexdigest()}) + "\n")
    return counts


def _tables() -> list[Table]:
    """Return the tables in an order in which rows come after those that they refer to.

    Leases, the pace and refused keys are useless elsewhere.
    """
    first = [connections, accounts, keys, streams, runs, backfills]
    rest = [table for table in metadata.sorted_tables if table not in [*first, leases, paces, refusals]]
    return [*first, *rest]


def _groups(db: Connection, table: Table, connection: str) -> Iterator[list[list[Any]]]:
    query = select(table).where(_of(table, connection)).order_by(*table.primary_key.columns)
    result = db.execution_options(yield_per=GROUP).execute(query)
    for group in result.partitions(GROUP):
        yield [[plain(value) for value in row] for row in group]


def _of(table: Table, connection: str) -> Any:
    """Return the condition that selects the rows of a connection and of its account."""
    account = select(connections.c.account).where(connections.c.name == connection).scalar_subquery()
    if table is keys:
        return table.c.name == privacy.KEY
    if table in (accounts, spends):
        return (table.c.name if table is accounts else table.c.account) == account
    if table is connections:
        return table.c.name == connection
    if "connection" in table.c:
        return table.c.connection == connection
    name = next(name for name in REFERENCES if name in table.c)
    numbered = REFERENCES[name]
    return table.c[name].in_(select(_number(numbered)).where(numbered.c.connection == connection))


def _number(table: Table) -> Column[Any]:
    number = table.autoincrement_column
    assert number is not None  # noqa: S101 - for tables that have one
    return number


# --- reading it --------------------------------------------------------------------------------------------


def verified(lines: Iterable[str]) -> tuple[str, Counter[str]]:
    """Read a whole file; return its connection and how many rows it holds of each table.

    Raises Damaged if it is incomplete, ConfigurationError if it is of another version.
    """
    digest, counts, connection, last = hashlib.sha256(), Counter[str](), None, None
    for text in lines:
        if last is not None:
            raise Damaged("The file continues after its end mark.")
        value = _parsed(text)
        if "sha256" in value:
            last = value
            continue
        digest.update(text.encode())
        if connection is None:
            connection = _connection_of(value)
        else:
            counts[str(value.get("table"))] += len(value.get("rows", ()))
    if connection is None or last is None:
        raise Damaged("The file has no end mark: the export was cut short, or this is not an export.")
    if last["sha256"] != digest.hexdigest() or last["rows"] != dict(counts):
        raise Damaged("The file was changed: its checksum does not match.")
    return connection, counts


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Damaged("This is not an exported state.")
    return value


def _connection_of(head: Mapping[str, Any]) -> str:
    if head.get("format") != FORMAT:
        raise Damaged("This is not an exported state.")
    if head.get("schema") != HEAD:
        raise ConfigurationError(
            f"The state was exported at revision {head.get('schema')}; this version needs {HEAD}.",
            todo="Export it with the same version that imports it.",
        )
    return str(head["connection"])


def load(database: Database, lines: Iterable[str], connection: str) -> Counter[str]:
    """Write a verified file's state, all of it or nothing; return how many rows of each table are new.

    Another connection may have stored the account and its spending already: these rows stay. Raises
    ConfigurationError if the connection has state here.
    """
    by_name = {table.name.removeprefix(PREFIX): table for table in _tables()}
    numbers: Numbers = {table: {} for table in REFERENCES.values()}
    counts = Counter[str]()
    with database.write() as db:
        _refuse_known(db, connection)
        for text in lines:
            value = json.loads(text)
            if "table" not in value:
                continue
            table = by_name[value["table"]]
            new = [_row(table, value["columns"], row, numbers) for row in value["rows"]]
            if table is keys:
                _refuse_other_keys(db, new)
            _write(db, table, new, numbers)
            counts[value["table"]] += len(new)
    return counts


def _refuse_known(db: Connection, connection: str) -> None:
    if db.scalar(select(exists().where(connections.c.name == connection))):
        raise ConfigurationError(
            f"This database already holds state of connection '{connection}'.",
            means="Nothing was imported.",
            todo="Import into a database without this connection; two states cannot be merged.",
        )


def _refuse_other_keys(db: Connection, new: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigurationError if this database has another key: the digests need their own."""
    stored = {row.name: row.value for row in db.execute(select(keys))}
    if any(stored.get(row["name"], row["value"]) != row["value"] for row in new):
        raise ConfigurationError(
            "This database has its own key for the digests of forgotten people.",
            means="Nothing was imported: with that key, the imported connection could not recognise its "
            "forgotten people.",
            todo="Import into an empty database.",
        )


def _row(table: Table, names: Sequence[str], values: Sequence[Any], numbers: Numbers) -> dict[str, Any]:
    row = {name: value for name, value in zip(names, values, strict=True) if name in table.c}
    return {name: _value(table.c[name], value, numbers) for name, value in row.items()}


def _value(column: Column[Any], value: Any, numbers: Numbers) -> Any:
    """Return a value as this database stores it: a moment, or the new number of a renumbered row."""
    if value is None:
        return None
    target = REFERENCES.get(column.name)
    if target is None or target is column.table:
        return datetime.fromisoformat(value) if isinstance(column.type, Moment) else value
    # A run is kept for 30 days: the number of a deleted one refers to no row.
    return numbers[target].get(value, 0) if target is runs else numbers[target][value]


def _write(db: Connection, table: Table, new: list[dict[str, Any]], numbers: Numbers) -> None:
    number = table.autoincrement_column
    before = [row.pop(number.name) for row in new] if number is not None else []
    if table in numbers:
        query = insert(table).returning(_number(table), sort_by_parameter_order=True)
        numbers[table].update(zip(before, db.scalars(query, new), strict=True))
    elif table is spends:
        # Another connection may have brought the account along: the larger count is the later one.
        keep_larger(db, table, new, "requests")
    else:
        add(db, table, new)

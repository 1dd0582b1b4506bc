"""Find values in the database that cannot be read; replace or delete and report them.

The columns' types decide which value cannot be read, and what replaces it (see `columns`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Dialect, Table, bindparam, delete, text, update

from connector.errors import StateDamaged
from connector.state.columns import DROP, NEEDED, Checked, Needed, fits
from connector.state.tables import PREFIX, backfills, metadata, readings

Columns = Iterable[tuple[str, str]]
# An unreadable key may be of any length and type.
LONGEST_KEY = 60
REPAIR = "`beamer-segment state repair`"
TODO = {
    "connection": "Set BEAMER_START_DATE to the date of the first sent rows. If a key was replaced since "
    "the first sync, also set BEAMER_ACCOUNT and SEGMENT_DESTINATION (every messageId "
    f"begins with bmr1-<destination>-<account>). Then run {REPAIR}. Or restore the "
    "database from a backup.",
    "outbox": f"Run {REPAIR}: it restores the value from the messageId.",
    "spend": f"Run {REPAIR}: it deletes the count. Then enter the used requests that Beamer's dashboard "
    "shows: `beamer-segment quota set-used`.",
    "forgotten": f"Run {REPAIR}, then `beamer-segment forget` again for each person that was forgotten.",
    "key": f"Run {REPAIR}, then `beamer-segment forget` again for each person that was forgotten.",
}


def todo(column: tuple[str, str]) -> str:
    """Return what to do about an unreadable value, by its table."""
    return TODO.get(column[0].removeprefix(PREFIX), f"Run {REPAIR}.")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that cannot be read: its table and column, and the key of its row."""

    table: Table
    column: str
    key: Mapping[str, Any]

    @property
    def type(self) -> Checked:
        column_type = self.table.c[self.column].type
        assert isinstance(column_type, Checked)  # noqa: S101 - no other is looked at
        return column_type

    @property
    def needed(self) -> bool:
        return self.type.instead is NEEDED

    @property
    def where(self) -> str:
        """Return its table, the key of its row, and its column, as a person would search for it."""
        return f"table {self.table.name}, key {self.shown_key}, column {self.column}"

    @property
    def shown_key(self) -> str:
        return ", ".join(f"{name}={_printable(value)}" for name, value in self.key.items())


class Writing(Protocol):
    """The part of the database that this module needs."""

    def write(self) -> Any: ...


def _printable(value: Any) -> str:
    full = value if isinstance(value, str) else repr(value)
    return full[:LONGEST_KEY].encode("ascii", "replace").decode()


def everywhere() -> list[tuple[str, str]]:
    """Return every column whose values are checked."""
    return [
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.c
        if isinstance(column.type, Checked)
    ]


def unreadable_values(db: Connection, columns: Columns) -> list[Unreadable]:
    """Return the unreadable values of these columns, with the keys of their rows."""
    by_table: dict[str, list[str]] = {}
    for table, column in sorted(set(columns)):
        by_table.setdefault(table, []).append(column)
    return [value for name, mine in by_table.items() for value in _of_table(db, metadata.tables[name], mine)]


def _of_table(db: Connection, table: Table, columns: list[str]) -> Iterable[Unreadable]:
    keys = [column.name for column in table.primary_key.columns]
    quoted = ", ".join(f'"{name}"' for name in [*keys, *columns])
    readers = [_reader(table, name, db.dialect) for name in columns]
    # Without SQLAlchemy's types, as the driver returns it.
    for row in db.execute(text(f'SELECT {quoted} FROM "{table.name}"')):  # noqa: S608 - names of ours
        for name, read, value in zip(columns, readers, row[len(keys) :], strict=True):
            if value is not None and not fits(read, value):
                yield Unreadable(table, name, dict(zip(keys, row[: len(keys)], strict=True)))


def _reader(table: Table, column: str, dialect: Dialect) -> Any:
    # As this database's own type, which knows the driver's form of a date.
    column_type = table.c[column].type.dialect_impl(dialect)
    assert isinstance(column_type, Checked)  # noqa: S101 - no other is looked at
    return column_type.reader(dialect, None)


def mend(database: Writing, columns: Columns) -> None:
    """Replace the unreadable values of these columns that have a replacement, and log them."""
    with database.write() as db:
        values = [value for value in unreadable_values(db, columns) if not value.needed]
        for value in values:
            replace(db, value)
    for value in values:
        now = "its row is created again" if value.type.instead is DROP else "it is created again"
        warn(value.table, value.shown_key, value.column, now)


def warn(table: Table, key: str, column: str, now: str = "it is created again") -> None:
    """Log an unreadable value and its consequence, `now`."""
    # Imported here: most commands have nothing to log, and it takes a tenth of their time.
    import structlog

    structlog.get_logger().warning("state_damaged", table=table.name, key=key, column=column, now=now)


def repair(
    db: Connection,
    instead: Callable[[Connection, Unreadable], Any],
    strays: Callable[[Connection], list[Unreadable]] = lambda _: [],
) -> list[Unreadable]:
    """Replace or delete every value that cannot be read; return them.

    `instead` returns the replacement of a value for which a column has none, or DROP. `strays` returns,
    when all values can be read, those that name something unknown.
    """
    # Key columns come last: the row is found by them.
    damaged = sorted(unreadable_values(db, everywhere()), key=lambda value: value.column in value.key)
    for value in damaged:
        if value.needed:
            _put(db, value, instead(db, value))
        else:
            replace(db, value)
    unknown = strays(db)
    for value in unknown:
        _put(db, value, instead(db, value))
    return [*damaged, *unknown]


def replace(db: Connection, value: Unreadable) -> None:
    """Put the column's replacement in place of a value, or delete the row if there is none."""
    column_type = value.type
    if column_type.instead is DROP and value.table in (backfills, readings):
        _begin_again(db, value)
    else:
        _put(db, value, DROP if column_type.instead is DROP else column_type.stand_in)


def _put(db: Connection, unreadable: Unreadable, value: Any) -> None:
    if value is DROP:
        db.execute(delete(unreadable.table).where(_row(db, unreadable)))
    else:
        db.execute(update(unreadable.table).where(_row(db, unreadable)).values({unreadable.column: value}))


def _row(db: Connection, value: Unreadable) -> Any:
    """Return the condition that selects its row, whatever its key holds."""
    equals = "IS" if db.dialect.name == "sqlite" else "="
    clauses = " AND ".join(f'"{name}" {equals} :key_{name}' for name in value.key)
    return text(clauses).bindparams(*(bindparam(f"key_{name}", part) for name, part in value.key.items()))


def _begin_again(db: Connection, value: Unreadable) -> None:
    """Delete a backfill with an unknown part: it starts again when it is requested again."""
    backfill = value.key["backfill" if value.table is readings else "id"]
    db.execute(delete(readings).where(readings.c.backfill == backfill))
    db.execute(delete(backfills).where(backfills.c.id == backfill))


def error(db: Connection, needed: Needed) -> StateDamaged:
    """Return the error of a command that needs a value that cannot be read."""
    values = unreadable_values(db, [needed.column])
    where = values[0].where if values else f"table {needed.column[0]}, column {needed.column[1]}"
    return StateDamaged(f"A value in the database cannot be read: {where}.", todo=todo(needed.column))

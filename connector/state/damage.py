"""What becomes of values in the database that cannot be read: replaced where they can be found out again.

The columns' types say which value cannot be read, and what stands for it (see `columns`). Here such values
are looked up with their keys, replaced or deleted, and said.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Dialect, Table, bindparam, delete, text, update

from connector.errors import StateDamaged
from connector.state.columns import DROP, NEEDED, Checked, Needed
from connector.state.tables import PREFIX, backfills, metadata, readings

Columns = Iterable[tuple[str, str]]
# Another key may hold a text of any length, or one that is none.
LONGEST_KEY = 60


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that cannot be read: its table and column, the key of its row, and what stands for it."""

    table: Table
    column: str
    key: Mapping[str, Any]

    @property
    def type(self) -> Checked:
        found = self.table.c[self.column].type
        assert isinstance(found, Checked)  # noqa: S101 - no other is looked at
        return found

    @property
    def needed(self) -> bool:
        return self.type.instead is NEEDED

    @property
    def where(self) -> str:
        """Its table, the key of its row, and its column, as a person would look for it."""
        return f"table {self.table.name}, key {self.shown_key}, column {self.column}"

    @property
    def shown_key(self) -> str:
        return ", ".join(f"{name}={_shown(value)}" for name, value in self.key.items())


class Writing(Protocol):
    """The part of the database that is needed here."""

    def write(self) -> Any: ...


def _shown(value: Any) -> str:
    return (
        (value if isinstance(value, str) else repr(value))[:LONGEST_KEY].encode("ascii", "replace").decode()
    )


def everywhere() -> list[tuple[str, str]]:
    """Every column whose values are looked at."""
    return [
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.c
        if isinstance(column.type, Checked)
    ]


def unreadable_values(db: Connection, columns: Columns) -> list[Unreadable]:
    """The unreadable values of these columns, with the keys of their rows."""
    by_table: dict[str, list[str]] = {}
    for table, column in sorted(set(columns)):
        by_table.setdefault(table, []).append(column)
    return [found for name, mine in by_table.items() for found in _of_table(db, metadata.tables[name], mine)]


def _of_table(db: Connection, table: Table, columns: list[str]) -> Iterable[Unreadable]:
    keys = [column.name for column in table.primary_key.columns]
    quoted = ", ".join(f'"{name}"' for name in [*keys, *columns])
    readers = [_reader(table, name, db.dialect) for name in columns]
    # Past SQLAlchemy's types, as the driver gives it.
    for row in db.execute(text(f'SELECT {quoted} FROM "{table.name}"')):  # noqa: S608 - names of ours
        for name, read, value in zip(columns, readers, row[len(keys) :], strict=True):
            if value is not None and not _fits(read, value):
                yield Unreadable(table, name, dict(zip(keys, row[: len(keys)], strict=True)))


def _reader(table: Table, column: str, dialect: Dialect) -> Any:
    # As this database's own: it knows how a date comes.
    kind = table.c[column].type.dialect_impl(dialect)
    assert isinstance(kind, Checked)  # noqa: S101 - no other is looked at
    return kind.reader(dialect, None)


def _fits(read: Any, value: Any) -> bool:
    try:
        read(value)
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return False
    return True


def mend(database: Writing, columns: Columns) -> list[Unreadable]:
    """Replace the unreadable values of these columns, and say so; give those that nothing can stand for."""
    with database.write() as db:
        found = unreadable_values(db, columns)
        for each in found:
            if not each.needed:
                replace(db, each)
    for each in found:
        if not each.needed:
            now = "its row is created again" if each.type.instead is DROP else "it is created again"
            warn(each.table, each.shown_key, each.column, now)
    return [each for each in found if each.needed]


def warn(table: Table, key: str, column: str, now: str = "it is created again") -> None:
    """Log a value that could not be read, and what becomes of it `now`."""
    # Imported here: most commands have nothing to log, and it takes a tenth of their time.
    import structlog

    structlog.get_logger().warning("state_damaged", table=table.name, key=key, column=column, now=now)


def repair(
    db: Connection,
    instead: Callable[[Connection, Unreadable], Any],
    strays: Callable[[Connection], list[Unreadable]] = lambda _: [],
) -> list[Unreadable]:
    """Look at every value, and replace or delete what cannot be read; give what that was.

    `strays` gives, when all can be read, what can be but names nothing that there is.

    `instead` gives what is put in place of a value that nothing can stand for, or DROP.
    """
    # What names a row comes last, or it would not be found by it any more.
    found = sorted(unreadable_values(db, everywhere()), key=lambda each: each.column in each.key)
    for each in found:
        if each.needed:
            _put(db, each, instead(db, each))
        else:
            replace(db, each)
    more = strays(db)
    for each in more:
        _put(db, each, instead(db, each))
    return [*found, *more]


def _put(db: Connection, found: Unreadable, value: Any) -> None:
    if value is DROP:
        db.execute(delete(found.table).where(_row(db, found)))
    else:
        db.execute(update(found.table).where(_row(db, found)).values({found.column: value}))


def replace(db: Connection, found: Unreadable) -> None:
    """Put in place of a value what stands for it, or delete its row where none can."""
    if found.type.instead is not DROP:
        db.execute(update(found.table).where(_row(db, found)).values({found.column: found.type.stand_in}))
    elif found.table in (backfills, readings):
        _begin_again(db, found)
    else:
        db.execute(delete(found.table).where(_row(db, found)))


def _row(db: Connection, found: Unreadable) -> Any:
    """What finds its row, whatever its key holds."""
    equals = "IS" if db.dialect.name == "sqlite" else "="
    clauses = " AND ".join(f'"{name}" {equals} :key_{name}' for name in found.key)
    return text(clauses).bindparams(*(bindparam(f"key_{name}", value) for name, value in found.key.items()))


def _begin_again(db: Connection, found: Unreadable) -> None:
    """A backfill of which a part is not known any more begins anew when it is asked for again."""
    of = found.key["id"]
    if found.table is readings:
        of = db.execute(
            readings.select().with_only_columns(readings.c.backfill).where(readings.c.id == of)
        ).scalar()
    db.execute(delete(readings).where(readings.c.backfill == of))
    db.execute(delete(backfills).where(backfills.c.id == of))


def error(db: Connection, needed: Needed) -> StateDamaged:
    """What a command ends with that cannot do without a value."""
    found = unreadable_values(db, [needed.column])
    where = found[0].where if found else f"table {needed.column[0]}, column {needed.column[1]}"
    return StateDamaged(f"A value in the database cannot be read: {where}.", todo=todo(needed.column))


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
    """The way out, by the table."""
    return TODO.get(column[0].removeprefix(PREFIX), f"Run {REPAIR}.")

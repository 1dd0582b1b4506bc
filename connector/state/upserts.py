"""Statements that both databases understand: insert what is new, update what is there, add up counts."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Table, case, select
from sqlalchemy.dialects import sqlite

from connector.state.tables import keys, quarantine

Values = Sequence[Mapping[str, Any]]


def insert_into(dialect: str, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT and RETURNING."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    # Takes a tenth of the start-up time of a sync, for nothing on SQLite.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def add(db: Connection, table: Table, values: Values) -> None:
    """Insert the rows that are not there yet."""
    if values:
        db.execute(_adding(db.dialect.name, table, None), values)


def add_new(db: Connection, table: Table, values: Values, returning: Column[Any]) -> list[Any]:
    """Insert the rows that are not there yet, and give a column of those: the database is the judge."""
    if not values:
        return []
    return list(db.execute(_adding(db.dialect.name, table, returning), values).scalars())


def put(db: Connection, table: Table, values: Values, *, without: str = "") -> None:
    """Insert rows, or overwrite what they hold; a column that others add to is left as it is there."""
    if values:
        db.execute(_putting(db.dialect.name, table, without), values)


def add_up(db: Connection, table: Table, values: Values, sum_of: str) -> None:
    """Insert rows, or add to one of their columns."""
    if values:
        db.execute(_adding_up(db.dialect.name, table, sum_of), values)


def keep_larger(db: Connection, table: Table, values: Values, of: str) -> None:
    """Insert rows, or keep the larger value of one of their columns."""
    if values:
        db.execute(_keeping_larger(db.dialect.name, table, of), values)


# Built once: putting a statement together costs more than running it.


@cache
def _adding(dialect: str, table: Table, returning: Column[Any] | None) -> Any:
    statement = insert_into(dialect, table).on_conflict_do_nothing()
    return statement if returning is None else statement.returning(returning)


@cache
def _putting(dialect: str, table: Table, without: str) -> Any:
    new = insert_into(dialect, table)
    over = [column.name for column in table.c if not column.primary_key and column.name != without]
    rest = {name: new.excluded[name] for name in over}
    return new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=rest)


@cache
def _adding_up(dialect: str, table: Table, sum_of: str) -> Any:
    new = insert_into(dialect, table)
    total = {sum_of: table.c[sum_of] + new.excluded[sum_of]}
    return new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=total)


@cache
def _keeping_larger(dialect: str, table: Table, of: str) -> Any:
    new = insert_into(dialect, table)
    here, there = table.c[of], new.excluded[of]
    larger = {of: case((here < there, there), else_=here)}
    return new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=larger)


KEY_BYTES = 32


def key(db: Connection, name: str) -> bytes:
    """The database's key of that name; empty before it was made."""
    return bytes.fromhex(db.execute(select(keys.c.value).where(keys.c.name == name)).scalar() or "")


def made(db: Connection, name: str) -> bytes:
    """The database's key of that name, drawn now if this is its first use."""
    add(db, keys, [{"name": name, "value": secrets.token_hex(KEY_BYTES)}])
    return key(db, name)


def digest(with_key: bytes, text: str) -> str:
    """What a text is known by; without the key nobody can find out by trying."""
    return hmac.new(with_key, text.encode(), hashlib.sha256).hexdigest()


# What is left of a row's text after 30 days; until then it counts as in quarantine.
EMPTIED = ""
IN_QUARANTINE = quarantine.c.body != EMPTIED

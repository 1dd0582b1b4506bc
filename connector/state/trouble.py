"""The drivers' errors filed: theirs carry statements and values, ours must not."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoneFree

from connector.errors import StoreUnreachable


@contextmanager
def filed(store: str) -> Iterator[None]:
    """Turn whatever the database or its driver raises into StoreUnreachable; `store` says where it is."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise StoreUnreachable(f"The state store {store} failed: {_said(error)}.") from None
    except NoneFree:
        raise StoreUnreachable(f"The state store {store} has no connection free.") from None


def _said(error: Exception) -> str:
    """The first line, for PostgreSQL puts rows into the next ones; for a refused value not even that."""
    driver = error.orig if isinstance(error, DBAPIError) and error.orig else error
    if isinstance(error, DataError | IntegrityError):
        return f"{type(driver).__name__} {getattr(driver, 'sqlstate', None) or ''}".strip()
    return (str(driver).strip().splitlines() or [type(driver).__name__])[0].rstrip(".")

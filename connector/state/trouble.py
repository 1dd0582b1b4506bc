"""The drivers' errors filed: theirs carry statements and values, ours must not."""

import sqlite3
from collections.abc import Iterator, Mapping
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
        said = _said(error)
        raise StoreUnreachable(
            f"The state store {store} failed: {said}.", means=_first(MEANS, said), todo=_first(TODO, said)
        ) from None
    except NoneFree:
        raise StoreUnreachable(f"The state store {store} has no connection free.") from None


def _said(error: Exception) -> str:
    """The first line, for PostgreSQL puts rows into the next ones; for a refused value not even that."""
    driver = error.orig if isinstance(error, DBAPIError) and error.orig else error
    if isinstance(error, DataError | IntegrityError):
        return f"{type(driver).__name__} {getattr(driver, 'sqlstate', None) or ''}".strip()
    return (str(driver).strip().splitlines() or [type(driver).__name__])[0].rstrip(".")


BACKUP = (
    "from a backup, without the -wal and -shm beside it: what was sent since goes out again under the same "
    "messageIds, and `quota set-used` tells what was spent."
)
# By what the databases say (SQLite's result codes and PostgreSQL's messages).
TODO = {
    "disk is full": "Make room on its disk; the next run goes on where this one stopped.",
    "disk I/O error": "See whether its disk is full or damaged; the next run goes on where this one stopped.",
    "No space left": "Make room on its disk; the next run goes on where this one stopped.",
    "is locked": "Another program holds it: let that one finish, or end it. Then run again.",
    "lock timeout": "Another session holds it: let that one finish, or end it. Then run again.",
    "readonly": "Give this user the right to write to the file and its folder, or set DATABASE_URL.",
    "unable to open": "Give this user the right to write to the file and its folder, or set DATABASE_URL.",
    "read-only": "Let DATABASE_URL name a server that may be written to.",
    "permission denied": "Give DATABASE_URL's user the right to make and to change tables there.",
    "password authentication failed": "Correct user and password in DATABASE_URL.",
    "does not exist": "Make what is missing there, or correct DATABASE_URL.",
    "already exists": "There is a part of a store, without its version: bring back the whole of it from a "
    "backup, or let DATABASE_URL name an empty database.",
    "not a database": f"Let DATABASE_URL name another file, or bring this one back {BACKUP}",
    "malformed": f"Bring it back {BACKUP} Without one, begin with a new file and the same BEAMER_START_DATE.",
}
MEANS = dict.fromkeys(
    ("not a database", "malformed"),
    "What only the store knew may be lost: what waits for Segment, what was sent, what was spent.",
)


def _first(by_words: Mapping[str, str], said: str) -> str:
    return next((text for words, text in by_words.items() if words in said), "")

"""Where the state is kept."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL

_POSTGRES = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}
_SQLITE = {"sqlite", "sqlite+pysqlite"}
_AIRFLOW = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID")
_FORM = "Set DATABASE_URL to postgresql://user:password@host/database or sqlite:////absolute/path.sqlite."


def surroundings() -> Mapping[str, str]:
    """The process's environment; nothing else reads it."""
    return os.environ


def store_location(environ: Mapping[str, str], database_url: str | None) -> str:
    """The store's SQLAlchemy URL, password included.

    psycopg2's URLs are accepted because Airflow and many hosts hand them out, and mean the same database.
    """
    if not database_url:
        return _sqlite_url(_state_file(environ))
    url = _parsed(database_url)
    if url.drivername in _POSTGRES:
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername in _SQLITE:
        return _sqlite_url(_absolute(url.database))
    raise ConfigurationError(
        f"DATABASE_URL is for {url.drivername}, which cannot keep the state: only PostgreSQL and SQLite can.",
        todo=_FORM,
    )


def ephemeral_place(environ: Mapping[str, str]) -> str | None:
    """The kind of place this is, if its local disk is likely to be gone at the next run."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "a Kubernetes pod"
    if any(environ.get(name) for name in _AIRFLOW):
        return "an Airflow task"
    return None


def _parsed(database_url: str) -> "URL":
    # Imported here: `--help` and `config show` need no SQLAlchemy.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(database_url)
    except (ArgumentError, ValueError):
        pass  # raised below, so that no traceback carries the URL and its password
    raise ConfigurationError("DATABASE_URL is no database URL.", todo=_FORM)


def _state_file(environ: Mapping[str, str]) -> Path:
    """The XDG specification says to ignore a relative $XDG_STATE_HOME."""
    state, home = Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""))
    if not state.is_absolute():
        state = home / ".local" / "state"
    if not state.is_absolute():
        raise ConfigurationError(
            "There is no place for the state: neither DATABASE_URL nor XDG_STATE_HOME nor HOME is set.",
            todo=_FORM,
        )
    return state / "beamer-segment" / "state.sqlite"


def _absolute(database: str | None) -> Path:
    if not database or database == ":memory:":
        raise ConfigurationError(
            "DATABASE_URL is for SQLite in memory, which forgets what was sent when the run ends.", todo=_FORM
        )
    if not Path(database).is_absolute():
        raise ConfigurationError(
            "DATABASE_URL has a relative path, which means another file wherever cron or a shell starts it.",
            todo="Give the absolute path; it takes four slashes: sqlite:////var/lib/beamer-segment/state.sqlite.",
        )
    return Path(database)


def _sqlite_url(path: Path) -> str:
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)

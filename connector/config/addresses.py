"""Addresses: of the database, of Segment, of Beamer; which are allowed."""

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL

REGIONS = {"us": "https://api.segment.io", "eu": "https://events.eu1.segmentapis.com"}
_OWN_PATH = re.compile(r"(/v1(/batch)?)?/*$")


def host_of(region: str, host: str | None) -> str:
    """Return Segment's address without `/v1`: that of a valid SEGMENT_HOST, or else the region's."""
    if not host:
        return REGIONS[region]
    parts = urlsplit(host if "://" in host else f"https://{host}")
    return f"{parts.scheme}://{parts.netloc}{_OWN_PATH.sub('', parts.path.rstrip('/'))}"


def web_address(text: str) -> SplitResult | None:
    """Parse a web address; None if it has strange characters or no host, or is neither http nor https."""
    if not text.isascii() or not text.isprintable() or "\\" in text or " " in text:
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port  # only reading it shows that it is wrong
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def is_loopback(name: str) -> bool:
    """Return whether a host name or address is this machine itself, where plain http is safe."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback_address(name)


def is_loopback_address(name: str) -> bool:
    """Return whether this is an address of this machine itself, not a name."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


_POSTGRES = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}
_SQLITE = {"sqlite", "sqlite+pysqlite"}
_AIRFLOW = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID")
_FORM = "Set DATABASE_URL to postgresql://user:password@host/database or sqlite:////absolute/path.sqlite."


def surroundings() -> Mapping[str, str]:
    """Return the process's environment; nothing else reads it."""
    return os.environ


def database_location(environ: Mapping[str, str], database_url: str | None) -> str:
    """Return the database's SQLAlchemy URL, password included.

    psycopg2's URLs are accepted because Airflow and many hosts give them, and mean the same database.
    """
    if not database_url:
        return _sqlite_url(_state_file(environ))
    url = _parsed_url(database_url)
    if url.drivername in _POSTGRES:
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername in _SQLITE:
        return _sqlite_url(_absolute(url.database))
    raise ConfigurationError(
        f"DATABASE_URL begins with {url.drivername}://, but only PostgreSQL and SQLite are supported.",
        todo=_FORM,
    )


def ephemeral_location(environ: Mapping[str, str]) -> str | None:
    """Return what this process runs in, if its local disk is probably gone at the next run."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "a Kubernetes pod"
    if any(environ.get(name) for name in _AIRFLOW):
        return "an Airflow task"
    return None


def _parsed_url(database_url: str) -> "URL":
    # Imported here: `--help` and `config show` need no SQLAlchemy.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(database_url)
    except (ArgumentError, ValueError):
        pass  # raised below, so that no traceback carries the URL and its password
    raise ConfigurationError("DATABASE_URL is not a database URL.", todo=_FORM)


def default_env_file(environ: Mapping[str, str]) -> Path | None:
    """Return the env file that `init` writes and every command reads; None without a home directory."""
    folder = _folder(environ, "XDG_CONFIG_HOME", ".config")
    return folder and folder / "beamer-segment" / "beamer-segment.env"


def _folder(environ: Mapping[str, str], variable: str, in_home: str) -> Path | None:
    """Return a folder of the XDG specification, which says to ignore a relative path."""
    home = Path(environ.get("HOME", "")) / in_home
    folders = (Path(environ.get(variable, "")), home)
    return next((folder for folder in folders if folder.is_absolute()), None)


def _state_file(environ: Mapping[str, str]) -> Path:
    state = _folder(environ, "XDG_STATE_HOME", ".local/state")
    if state is None:
        raise ConfigurationError(
            "There is no place for the database: DATABASE_URL, XDG_STATE_HOME and HOME are not set.",
            todo=_FORM,
        )
    return state / "beamer-segment" / "state.sqlite"


def _absolute(database: str | None) -> Path:
    if not database or database == ":memory:":
        raise ConfigurationError(
            "DATABASE_URL names a SQLite database in memory, which is lost when the run ends.", todo=_FORM
        )
    if not Path(database).is_absolute():
        raise ConfigurationError(
            "DATABASE_URL has a relative path, which names another file in each working directory.",
            todo="Set the absolute path, with four slashes: sqlite:////var/lib/beamer-segment/state.sqlite.",
        )
    return Path(database)


def _sqlite_url(path: Path) -> str:
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)

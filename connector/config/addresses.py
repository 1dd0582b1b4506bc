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
_SAFE = re.compile(r"[!-~]+")


def host_of(region: str, host: str | None) -> str:
    """Return the address for the library: the configured host, or the region's, without `/v1`."""
    if not host or not host.strip():
        return _of_region(region)
    host = host.strip()
    parts = _split(host if "://" in host else f"https://{host}")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise _wrong("is plain http, which would send the key and users' texts unencrypted")
    path = _OWN_PATH.sub("", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc}{path}"


def _of_region(region: str) -> str:
    if region.lower() not in REGIONS:
        raise ConfigurationError("SEGMENT_REGION is neither us nor eu.", todo="Set it to us or eu.")
    return REGIONS[region.lower()]


def _split(address: str) -> SplitResult:
    parts = _parsed(address)
    if parts is None or not parts.hostname or parts.scheme not in ("https", "http"):
        raise _wrong("is not an address")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _wrong("contains more than a host and a path")
    return parts


def _parsed(address: str) -> SplitResult | None:
    if not _SAFE.fullmatch(address) or "\\" in address:
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port  # parsed, and found wrong, on access only
    except ValueError:
        return None
    return parts


def is_loopback(name: str) -> bool:
    """Return whether a host name or address is this machine itself, where plain http is safe."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback_address(name)


def is_loopback_address(name: str) -> bool:
    """Whether it is an address of this machine itself, and no name."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _wrong(how: str) -> ConfigurationError:
    # Without the value: somebody may have put a key into it.
    return ConfigurationError(
        f"SEGMENT_HOST {how}.", todo="Remove it and set SEGMENT_REGION, or set an https:// address."
    )


_POSTGRES = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}
_SQLITE = {"sqlite", "sqlite+pysqlite"}
_AIRFLOW = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID")
_FORM = "Set DATABASE_URL to postgresql://user:password@host/database or sqlite:////absolute/path.sqlite."


def surroundings() -> Mapping[str, str]:
    """The process's environment; nothing else reads it."""
    return os.environ


def database_location(environ: Mapping[str, str], database_url: str | None) -> str:
    """The database's SQLAlchemy URL, password included.

    psycopg2's URLs are accepted because Airflow and many hosts hand them out, and mean the same database.
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
    """Return the kind of place, if its local disk is probably gone at the next run."""
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


def _state_file(environ: Mapping[str, str]) -> Path:
    """The XDG specification says to ignore a relative $XDG_STATE_HOME."""
    state, home = Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""))
    if not state.is_absolute():
        state = home / ".local" / "state"
    if not state.is_absolute():
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

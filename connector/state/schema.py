"""The schema's version, managed by Alembic, which is imported only if an upgrade is needed."""

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from connector.errors import ConfigurationError, DatabaseNewer, DatabaseRefused, DatabaseUnreachable
from connector.state.dialects import copy_sqlite
from connector.state.engine import NO_SCHEMA, Database, driver
from connector.state.tables import VERSION_TABLE, metadata

# The newest revision in migrations/versions; a test compares the two.
HEAD = "0001"
# Any number, the same in every process: only one of them upgrades a PostgreSQL database at a time.
ADVISORY_LOCK = 8_113_021_121


def version(database: Database) -> str | None:
    """Return the revision of the database; None if it has no tables of the connector."""
    with database.read() as db:
        return _version(db)


def _version(db: Connection) -> str | None:
    if not inspect(db).has_table(VERSION_TABLE):
        if db.dialect.name == "postgresql" and db.execute(text("SELECT current_schema()")).scalar() is None:
            raise DatabaseRefused("The search_path of DATABASE_URL has no schema to use.", todo=NO_SCHEMA)
        return None
    return db.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def ready(database: Database, now: datetime) -> None:
    """Make sure that the database is at HEAD.

    A new database gets its tables, and a local SQLite file is copied beside itself and upgraded; only a
    person upgrades PostgreSQL. Raises DatabaseNewer, or ConfigurationError naming `db upgrade`.
    """
    revision = version(database)
    if revision == HEAD:
        return
    _check_known(revision)
    if revision is not None and not database.is_sqlite:
        raise ConfigurationError(
            f"The database is at revision {revision}; this version needs {HEAD}.",
            todo="Run `beamer-segment db upgrade` once, while no run is in progress.",
        )
    upgrade(database, now)


def upgrade(database: Database, now: datetime) -> Path | None:
    """Bring the database to HEAD in one transaction; return the copy of a SQLite file, if one was made."""
    with database.write() as db:
        if not database.is_sqlite:
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        # Read under the lock: another process may have been faster.
        revision = _version(db)
        _check_known(revision)
        if revision == HEAD:
            return None
        copy = _copy(database, now) if revision else None
        from alembic import command

        command.upgrade(alembic_config(db), "head")
    return copy


def _copy(database: Database, now: datetime) -> Path | None:
    if database.path is None:
        return None
    copy = database.path.with_name(f"{database.path.name}.before-{HEAD}-{now:%Y%m%dT%H%M%S}")
    try:
        # A second connection, because the first one holds the lock; it has changed nothing yet.
        with database.read() as db:
            copy_sqlite(driver(db), copy)
    except OSError as error:
        raise DatabaseUnreachable(f"The database cannot be copied to {copy}: {error.strerror}.") from None
    return copy


def _check_known(revision: str | None) -> None:
    scripts = (migrations() / "versions").glob("*.py")
    if revision is not None and not any(script.name.startswith(f"{revision}_") for script in scripts):
        raise DatabaseNewer(
            f"The database is at revision {revision}, which is newer than this version supports ({HEAD})."
        )


def migrations() -> Path:
    """Return the migrations' folder: inside the package in a wheel, beside it in a checkout."""
    packaged = Path(__file__).parent.parent / "migrations"
    return packaged if packaged.exists() else packaged.parent.parent / "migrations"


def alembic_config(db: Connection) -> Any:
    """Return Alembic's configuration for a connection that is already open."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["connection"] = db
    config.attributes["version_table"] = VERSION_TABLE
    config.attributes["target_metadata"] = metadata
    return config

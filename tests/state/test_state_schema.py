"""The schema: Alembic owns it, and it is what the tables say."""

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text

from connector.errors import DatabaseNewer
from connector.state import schema
from connector.state.columns import Checked
from connector.state.dialects import copy_sqlite
from connector.state.engine import Database, driver, open_database
from connector.state.tables import PREFIX, VERSION_TABLE, metadata, runs
from tests.state.racers import make_ready, race
from tests.state.times import NOW


def test_the_migrations_make_the_tables(database: Database) -> None:
    with database.read() as db:
        context = MigrationContext.configure(db, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_indexes_hold_what_the_tables_say(database: Database) -> None:
    """Alembic does not compare their conditions."""
    with database.read() as db:
        found = {index["name"]: index for index in inspect(db).get_indexes(f"{PREFIX}outbox")}
    for name, state in ((f"{PREFIX}outbox_live", "dead"), (f"{PREFIX}outbox_dead", "dead")):
        where = next(v for k, v in found[name]["dialect_options"].items() if k.endswith("_where"))
        assert state in str(where)
        assert ("<>" in str(where)) == name.endswith("live")


def test_every_name_is_prefixed(database: Database) -> None:
    with database.read() as db:
        assert all(name.startswith(PREFIX) for name in inspect(db).get_table_names())
    assert all(name.startswith(PREFIX) for name in metadata.tables)


def test_a_shared_database_keeps_its_own_alembic_table(database: Database, database_url: str) -> None:
    with database.write() as db:
        db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        db.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    schema.ready(database, NOW)
    schema.upgrade(database, NOW)
    with database.read() as db:
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalar() == "theirs"


def test_head_is_the_newest_script(sqlite_store: Database) -> None:
    with sqlite_store.read() as db:
        assert ScriptDirectory.from_config(schema.alembic_config(db)).get_heads() == [schema.HEAD]


def test_a_store_is_made_once(database: Database) -> None:
    assert schema.version(database) == schema.HEAD
    schema.ready(database, NOW)
    assert schema.upgrade(database, NOW) is None


def test_an_interrupted_migration_leaves_nothing(database_url: str) -> None:
    database = open_database(database_url)
    with suppress(KeyboardInterrupt), database.write() as db:
        command.upgrade(schema.alembic_config(db), "head")
        raise KeyboardInterrupt
    with database.read() as db:
        assert inspect(db).get_table_names() == []
    schema.ready(database, NOW)
    assert schema.version(database) == schema.HEAD
    database.close()


@pytest.mark.parametrize("call", [schema.ready, schema.upgrade])
def test_a_newer_store_is_left_alone(database: Database, call: object) -> None:
    with database.write() as db:
        db.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))  # noqa: S608 - a constant
    with pytest.raises(DatabaseNewer, match="9999"):
        call(database, NOW)  # type: ignore[operator]
    assert schema.version(database) == "9999"


def test_several_processes_make_new_files_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/{{}}.sqlite"
    assert race(make_ready, url, [8] * 3) == ["ready"] * 3


def test_several_processes_make_a_new_database_at_once(postgres_url: str) -> None:
    assert race(make_ready, postgres_url, [1] * 3) == ["ready"] * 3


def test_a_copy_holds_what_is_committed_and_only_that(sqlite_store: Database, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    before = os.umask(0)
    new = runs.insert().values(connection="c", command="sync", started_at=NOW)
    with sqlite_store.write() as db:
        db.execute(new)
    with sqlite_store.write() as writer, sqlite_store.read() as reader:
        writer.execute(new)
        copy_sqlite(driver(reader), copy)
    os.umask(before)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy"]
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert kept.execute("SELECT count(*) FROM beamer_segment_run").fetchone() == (1,)
    with sqlite_store.read() as after:
        assert after.execute(select(func.count()).select_from(runs)).scalar() == 2


def test_something_stands_for_each_value_that_must_be_there() -> None:
    """Of a column that holds no NULL, none can be put in place of what cannot be read."""
    columns = [column for table in metadata.sorted_tables for column in table.c if not column.nullable]
    stand_ins = {str(each): each.type.instead for each in columns if isinstance(each.type, Checked)}
    assert stand_ins
    assert [name for name, instead in stand_ins.items() if instead is None] == []

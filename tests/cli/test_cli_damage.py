# ruff: noqa: S608 - the names of our own tables
"""A database that a disk or a hand has damaged: no command ends with an error that nobody foresaw."""

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Table, text

from connector import cli
from connector.domain.budget import Limits
from connector.domain.hints import NewHint
from connector.errors import ConnectorError, StateDamaged
from connector.sandbox import Company
from connector.state import alerts, deliveries, hints, leases, privacy, runs, suspensions
from connector.state.alerts import Alert
from connector.state.columns import NEEDED, Checked, Real, Whole
from connector.state.leases import this_process
from connector.state.pace import Pace
from connector.state.runs import Due
from connector.state.tables import PREFIX, metadata
from tests.cli.process import Machine
from tests.harness import Rig, sandbox
from tests.sandbox import Sandbox

pytestmark = pytest.mark.slow

SMALL = Company(posts=5, requests=2, days=30, activity=0.2, nps_per_day=0.3)
TABLES = [table.name.removeprefix(PREFIX) for table in metadata.sorted_tables]
# SQLite takes each of them in any column; PostgreSQL those that are of the column's type.
NUMBERS: list[object] = ["garbage", -7, 2**62]
OTHERS: list[object] = ["garbage", b"\x00\xff", "infinity"]
LOOKS = [
    *(["status"], ["check", "--offline"], ["report", "--html", "-"], ["runs"], ["quota"], ["explain", "1"]),
    *(["outbox", "list"], ["state", "repair", "--dry-run"]),
]


@dataclass
class Scene:
    """A database after some runs, with something in every table; `due` is what a whole one sends next."""

    rig: Rig
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)

    @property
    def box(self) -> Sandbox:
        return self.rig.sandbox

    def keep(self) -> None:
        with self.rig.database.read() as db:
            for table in metadata.sorted_tables:
                stored_rows = db.execute(text(f'SELECT * FROM "{table.name}"')).mappings()
                self.kept[table.name] = [dict(row) for row in stored_rows]

    def restore(self) -> None:
        with self.rig.database.write() as db:
            for table in metadata.sorted_tables:
                db.execute(text(f'DELETE FROM "{table.name}"'))
                if rows := self.kept[table.name]:
                    names = ", ".join(f'"{name}"' for name in rows[0])
                    values = ", ".join(f":{name}" for name in rows[0])
                    db.execute(text(f'INSERT INTO "{table.name}" ({names}) VALUES ({values})'), rows)

    def damage(self, table: Table, column: str, bad: object) -> bool:
        """Put it into each row, or into one where no two may hold the same; whether the database takes it."""
        unique = {c.name for c in table.primary_key.columns} | {"message_id", "digest"}
        if table.name.endswith("stream"):
            unique |= {"name", "connection"}
        where = ""
        if column in unique and self.kept[table.name]:
            where = f' WHERE "{column}" = (SELECT max("{column}") FROM "{table.name}")'
        try:
            with self.rig.database.write() as db:
                db.execute(text(f'UPDATE "{table.name}" SET "{column}" = :bad{where}'), {"bad": bad})
        except ConnectorError:
            return False
        return True

    def sent(self) -> Counter[str]:
        """What a sync sends, and a backfill."""
        self.box.segment.received.clear()
        self.rig.sync()
        self.rig.backfill(9)
        sent = [message["messageId"] for message in self.box.segment.received]
        # Totals and traits that are not known any more are sent as they are.
        return Counter(
            message_id
            for message_id in sent
            if "-metrics-" not in message_id and "-identify-" not in message_id
        )


@pytest.fixture(autouse=True)
def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.fixture
def scene(database_url: str) -> Iterator[Scene]:
    box = sandbox(company=SMALL, plan="scale")
    rig = Rig(box, database_url, days=20, limits=Limits(100_000, 0, 30, None, 1.0))
    rig.settings = {"metrics": True, "identify": True}
    box.world.add("nps", score="eleven", feedback="?", userId="u-1")
    rig.sync()
    rig.backfill(9, most_requests=3)
    box.advance(timedelta(hours=30))
    box.world.add("posts", title="News")
    for _ in range(3):
        box.world.add("nps", feedback="Good", userId="u-1")
    rig.sync(deliver=False, most_requests=5)
    now = rig.clock.now()
    lease = leases.acquire(rig.database, rig.name, this_process(), now)
    privacy.erase(rig.database, lease, "jane", lambda _: False, now)
    leases.release(rig.database, lease, now)
    suspensions.remember(rig.database, "other", "beamer", "key", "No.", now)
    runs.save_due(rig.database, rig.name, Due(now))
    alerts.claim(rig.database, rig.name, Alert("stuck", now), "healthy")
    Pace(rig.database, 1_000).take(1, now)
    problem = {"found": "3 messages are missing.", "todo": "Run verify."}
    deliveries.save(rig.database, rig.name, {"problems": [problem]}, now)
    hints.add(rig.database, rig.name, [NewHint("nps"), NewHint("posts")], now)
    with rig.database.write() as db:
        spoken = {"connection": "default", "what": "a", "since": now}
        db.execute(metadata.tables[f"{PREFIX}mention"].insert(), [spoken])
        key = {"connection": "other", "api": "beamer", "destination": "", "digest": "00", "address": "x"}
        db.execute(metadata.tables[f"{PREFIX}credential"].insert(), [{**key, "current": True, "since": now}])
    scene = Scene(rig)
    scene.keep()
    assert all(scene.kept.values()), "a table without rows"
    scene.due = set(scene.sent())
    scene.restore()
    yield scene
    rig.close()


def bad_of(kind: Any) -> list[object]:
    """What is put into a column; nothing where no value is looked at."""
    if not isinstance(kind, Checked):
        return []
    return NUMBERS if isinstance(kind, Whole | Real) else OTHERS


def is_readable(table: str, column: str, bad: object) -> bool:
    """Another name than before is not one that cannot be read, nor is another id of a parent."""
    names = {("connection", "account"), ("connection", "destination"), ("outbox", "destination")}
    return (
        (table, column) in {*names, ("reading", "parent")}
        and isinstance(bad, str | int)
        and "{" not in str(bad)
    )


def shown_by(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["beamer-segment", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out + shown.err


@pytest.fixture
def settings(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": scene.rig.url,
        "BEAMER_API_KEY": "key",
        "SEGMENT_WRITE_KEY": "key",
        "BEAMER_ACCOUNT": "acct",
        "SEGMENT_DESTINATION": "dest",
        "BEAMER_START_DATE": scene.rig.start.isoformat(),
    }.items():
        monkeypatch.setenv(name, value)


def flaws(scene: Scene, table: Table, column: str, bad: object) -> list[str]:
    """What is wrong with a sync and a backfill of the damaged store."""
    kind = table.c[column].type
    try:
        sent = scene.sent()
    except StateDamaged as error:
        fine = (
            isinstance(kind, Checked)
            and kind.instead is NEEDED
            and (table.name in error.what or "out of range" in error.what)
        )
        return [] if fine and error.todo else [f"it ends with: {error.what}"]
    except Exception as error:
        return [repr(error)[:300]]
    doubled = [message_id for message_id, times in sent.items() if times > 1 or message_id not in scene.due]
    lost = scene.due - set(sent)
    if table.name == f"{PREFIX}outbox" and column in ("message", "write_key"):
        # A text that is none is kept, and says so; so is a message whose write key is not known any more.
        lost -= {row["message_id"] for row in scene.kept[table.name]}
    return [f"doubled {doubled[:3]}, lost {sorted(lost)[:3]}"] if doubled or lost else []


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.usefixtures("settings")
def test_no_damaged_value_stops_anybody_without_a_word(
    scene: Scene,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    table, wrong = metadata.tables[PREFIX + name], list[Any]()
    for column in table.c:
        for bad in bad_of(column.type):
            scene.restore()
            if not scene.damage(table, column.name, bad):
                continue
            for words in LOOKS if bad == "garbage" else LOOKS[:1]:
                given = [str(tmp_path / "page.html") if word == "-" else word for word in words]
                code, shown = shown_by(given, monkeypatch, capsys)
                always = words[0] in ("status", "report", "runs", "state")
                if "BS-001" in shown or code == 1 or (always and code):
                    wrong.append((column.name, bad, words[0], code, shown[-300:]))
            if not is_readable(name, column.name, bad):
                wrong += [(column.name, bad, flaw) for flaw in flaws(scene, table, column.name, bad)]
    assert not wrong, "\n".join(map(str, wrong))


# A value that nothing can stand for; after the repair a sync sends what it would have sent.
REPAIRED = [
    ("connection", "start_date"),
    ("connection", "account"),
    ("connection", "destination"),
    ("connection", "name"),
    ("stream", "name"),
    ("stream", "connection"),
    ("outbox", "connection"),
    ("spend", "requests"),
    ("forgotten", "digest"),
]


@pytest.mark.parametrize(("name", "column"), REPAIRED)
@pytest.mark.parametrize(
    "bad", ['{"x": 1}', *(pytest.param(bad, marks=pytest.mark.long) for bad in ("", b"\x00"))]
)
@pytest.mark.usefixtures("settings")
def test_a_damaged_store_is_repaired_by_its_command(
    scene: Scene,
    name: str,
    column: str,
    bad: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not scene.damage(metadata.tables[PREFIX + name], column, bad):
        pytest.skip("PostgreSQL takes no such value")
    with pytest.raises(StateDamaged) as refused:
        scene.sent()
    assert f"{PREFIX}{name}" in refused.value.what
    assert "state repair" in refused.value.todo
    code, shown = shown_by(["status"], monkeypatch, capsys)
    assert code == 0
    code, shown = shown_by(["state", "repair"], monkeypatch, capsys)
    assert (code, f"{PREFIX}{name}" in shown) == (0, True), shown
    assert shown_by(["state", "repair"], monkeypatch, capsys) == (
        0,
        "Every value in the database can be read.\n",
    )
    assert set(scene.sent()) == scene.due


@pytest.mark.usefixtures("settings")
def test_a_start_date_is_not_guessed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BEAMER_START_DATE")
    scene.damage(metadata.tables[f"{PREFIX}connection"], "start_date", "infinity")
    code, shown = shown_by(["status"], monkeypatch, capsys)
    assert (code, "DAMAGED" in shown, "start_date" in shown) == (0, True, True)
    code, shown = shown_by(["state", "repair"], monkeypatch, capsys)
    assert (code, "BEAMER_START_DATE" in shown) == (78, True)


# --- of another shape, or of another version ------------------------------------------------------------

SHAPES = {
    ("child", "cursor"): [
        '{"version": 2, "part": {"cursor": {"page": "x"}}}',
        '{"version": 2, "part": 3}',
        '{"version": 9, "part": {"cursor": {}}}',
        '{"part": {"cursor": {}}}',
        '{"version": 2, "part": {"cursor": {}, "low": 5}}',
        '{"version": 2, "part": {"cursor": {}}, "unheard_of": 5}',
    ],
    ("stream", "cursor"): [
        '{"version": 2, "part": {"cursor": {"since": "never"}}}',
        '{"version": 2, "part": {"cursor": {}}, "progress": {"pages": -1}}',
        "[]",
    ],
    ("stream", "windows"): [
        '{"version": 1, "left": [[1]], "thorough": 0}',
        '{"version": 1, "left": [["a", 2, 3]], "thorough": true}',
        '{"version": 2, "left": [[1, 2, null]], "thorough": true}',
        "{}",
    ],
    ("stream", "curve"): [
        "[]",
        '{"version": 1, "rates": [1], "rows": [2], "hours": [3]}',
        '{"version": 2, "rates": [], "rows": [], "hours": 5}',
    ],
    ("run", "summary"): ['{"late": 5}', '{"rows_new": {"nps": "x"}, "saving_since": "x", "saving": "y"}'],
    ("proof", "found"): ["[]", '{"problems": 5, "unproven": {}}', '{"problems": [5]}'],
    ("reading", "cursor"): ['{"version": 2, "part": {"cursor": {"page": "x"}}}', '{"version": 9}'],
}


@pytest.mark.parametrize(("name", "column"), SHAPES)
@pytest.mark.usefixtures("settings")
def test_what_is_kept_in_another_shape_begins_anew(
    scene: Scene,
    name: str,
    column: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    table = metadata.tables[PREFIX + name]
    for bad in SHAPES[name, column]:
        scene.restore()
        assert scene.damage(table, column, bad)
        for words in (["status"], ["runs"], ["report", "--html", str(tmp_path / "page.html")]):
            assert shown_by(words, monkeypatch, capsys)[0] == 0, bad
        assert not flaws(scene, table, column, bad), bad


def test_a_warning_names_the_table_and_the_key(machine: Machine) -> None:
    """And only what cannot be read is another."""
    assert machine.run("sync").code == 0
    before = machine.run("status", "--output", "json").connection
    database = machine.database()
    with database.write() as db:
        db.execute(text(f"UPDATE {PREFIX}stream SET watermark = 'x' WHERE name = 'nps'"))
        db.execute(text(f"UPDATE {PREFIX}run SET summary = '[' WHERE id = 1"))
    database.close()
    after = machine.run("status", "--output", "json").connection
    assert "database" in {problem["thing"] for problem in after["problems"]}
    assert after["runs"] == before["runs"]
    ended = machine.run("sync")
    told = [line for line in ended.err.splitlines() if "state_damaged" in line]
    assert ended.code == 0
    assert len(told) == 2
    assert any(all(word in line for word in ("warning", f"{PREFIX}run", "id=1", "summary")) for line in told)
    assert any(all(word in line for word in (f"{PREFIX}stream", "scope=", "watermark")) for line in told)
    assert "state_damaged" not in machine.run("sync").err
    machine.all_there_once()

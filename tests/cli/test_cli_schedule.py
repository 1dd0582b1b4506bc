"""`schedule`: a process that goes on by itself, tells how it is, and leaves when it is asked to."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from connector.cli.command import open_session
from connector.cli.connection_run import Runner
from connector.cli.output import Output
from connector.cli.schedule import LogReporter, Worker
from connector.errors import Exit
from connector.state import runs
from connector.state.engine import open_database
from tests.cli.accounts import accounts
from tests.cli.conftest import Make
from tests.cli.process import Ended, Machine, until
from tests.cli.switch import Switch

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

SOON = 10.0


class Daemon:
    """A `schedule` under way; what it logs goes into a file, or it would wait for a reader."""

    def __init__(self, machine: Machine, *words: str, number: int = 0) -> None:
        self._file = machine.here / f"schedule{number}.log"
        with self._file.open("w") as log:
            self.running = machine.begin("schedule", "--bind", "127.0.0.1:0", *words, stdout=log, stderr=log)
        until(lambda: any(line["event"] == "serving" for line in self.lines) or self.over)
        assert not self.over, self._file.read_text()
        port = next(line["port"] for line in self.lines if line["event"] == "serving")
        self.url = f"http://127.0.0.1:{port}"

    @property
    def lines(self) -> list[dict[str, Any]]:
        whole = [line for line in self._file.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        return [json.loads(line) for line in whole]

    @property
    def over(self) -> bool:
        return self.running.process.poll() is not None

    def ended(self, job: str = "sync") -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "job_ended" and line["job"] == job]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", trust_env=False)

    def leave(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        since = monotonic()
        self.running.signal(number)
        ended = self.running.end()
        assert monotonic() - since < SOON, self._file.read_text()
        return ended


@contextmanager
def schedule(machine: Machine, *words: str, number: int = 0) -> Iterator[Daemon]:
    daemon = Daemon(machine, *words, number=number)
    try:
        yield daemon
    finally:
        if not daemon.over:
            daemon.running.process.kill()
            daemon.running.end()


def metrics(daemon: Daemon) -> dict[str, float]:
    """By name and labels' values."""
    found = text_string_to_metric_families(daemon.get("/metrics").text)
    return {
        " ".join((sample.name.removeprefix("beamer_segment_"), *sample.labels.values())): sample.value
        for family in found
        for sample in family.samples
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_syncs_tells_how_it_is_and_leaves_with_0(on_either: Machine, number: signal.Signals) -> None:
    with schedule(on_either) as daemon:
        until(lambda: bool(daemon.ended()))
        assert (daemon.get("/healthz").status_code, daemon.get("/healthz").text) == (200, "ok\n")
        assert (daemon.get("/readyz").status_code, daemon.get("/readyz").text) == (200, "ok\n")
        found = metrics(daemon)
        page = daemon.get("/")
        assert daemon.get("/nothing").status_code == 404
        assert daemon.leave(number).code == 0
    on_either.all_there_once()
    assert found["last_run_exit_code default"] == found["suspended default"] == 0
    assert found["last_success_timestamp_seconds default"] > on_either.start.timestamp()
    assert found["schedule_runs_total default 0"] == 1
    assert found["events_sent_total default nps"] > 0
    assert "default" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    (line,) = daemon.ended()
    assert (line["connection"], line["exit"], line["run"]) == ("default", 0, 1)
    assert daemon.lines[-1]["event"] == "schedule_ended"


def test_sigterm_in_the_middle_of_a_run_and_the_next_start_goes_on_at_once(machine: Machine) -> None:
    machine.sandbox.faults.latency = 0.05
    with schedule(machine) as daemon:
        until(lambda: machine.asked() > 2)
        assert daemon.leave().code == 0
    assert daemon.lines[-1]["drained"] is True
    machine.sandbox.faults.clear()
    with schedule(machine, number=1) as daemon:
        until(lambda: bool(daemon.ended()))
        assert daemon.leave().code == 0
    machine.all_there_once()


def test_a_webhook_brings_a_comment_before_the_next_sync(make: Make, database_url: str) -> None:
    """A forged one brings nothing."""
    machine = make(database_url=database_url, extra={"BEAMER_WEBHOOK_SECRET": "a-secret"})
    with schedule(machine) as daemon:
        until(lambda: bool(daemon.ended()))
        before = machine.asked()
        with machine.sandbox.lock:
            post = machine.sandbox.world.posts_shown()[0]
            machine.sandbox.world.add("comments", post.id, userId="u-1")

        def called(secret: str) -> int:
            url = f"{daemon.url}/webhooks/beamer/default"
            body = [{"postTitle": post.title, "text": "Nice"}]
            headers = {"Beamer-Webhook-Secret": secret}
            return httpx.post(url, json=body, headers=headers, trust_env=False).status_code

        assert called("forged") == 401
        assert called("a-secret") == 202
        until(lambda: bool(daemon.ended("hints")), 60)
        figures = metrics(daemon)
        assert daemon.leave().code == 0
    machine.all_there_once()
    asked = [seen.path for seen in machine.sandbox.requests if seen.api == "beamer"][before:]
    assert f"/posts/{post.id}/comments" in asked
    assert all(path.endswith("/comments") for path in asked)
    assert figures["hints_confirmed default comments"] == 1
    assert figures["webhook_requests_total default 401"] == 1
    assert len(daemon.ended()) == 1


def test_a_second_signal_does_not_wait(machine: Machine) -> None:
    machine.sandbox.faults.script("beamer", ["hang"])
    with schedule(machine) as daemon:
        until(lambda: machine.asked() >= 1)
        daemon.running.signal(signal.SIGTERM)
        until(lambda: any(line["event"] == "schedule_draining" for line in daemon.lines))
        daemon.running.signal(signal.SIGTERM)
        assert daemon.running.end(SOON).code == 143


def test_a_start_soon_after_another_asks_nothing_before_its_time(machine: Machine) -> None:
    for number in range(2):
        with schedule(machine, number=number) as daemon:
            until(lambda: metrics(daemon).get("last_run_exit_code default") == 0)
            asked = machine.asked()
            assert daemon.leave().code == 0
            assert machine.asked() == asked
        assert len(daemon.ended()) == (0 if number else 1)


def test_a_sync_by_hand_counts(machine: Machine) -> None:
    assert machine.run("sync").code == 0
    asked = machine.asked()
    with schedule(machine) as daemon:
        until(lambda: metrics(daemon)["schedule_due_timestamp_seconds default"] > 0)
        assert daemon.leave().code == 0
    assert machine.asked() == asked


def test_ready_only_with_keys_that_are_taken(make: Make) -> None:
    machine = accounts(make, ("a", "b"))
    machine.extra["KEY_b"] = "of-somebody-else"
    with schedule(machine) as daemon:
        until(lambda: len(daemon.ended()) == 2)
        ready = daemon.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "a key was refused; suspended: b\n")
        assert daemon.get("/healthz").status_code == 200
        found = metrics(daemon)
        assert (found["suspended a"], found["suspended b"]) == (0, 1)
        assert "suspended: a key was refused" in daemon.get("/").text
        assert daemon.leave().code == 0


def test_a_key_file_that_is_replaced_is_taken_up(make: Make) -> None:
    machine = make(extra={"BEAMER_API_KEY": ""})
    file = machine.here / "key"
    file.write_text("rotated-too-late")
    machine.extra["BEAMER_API_KEY_FILE"] = str(file)
    with schedule(machine, "--interval", "1m") as daemon:
        until(lambda: bool(daemon.ended()))
        assert daemon.get("/readyz").status_code == 503
        file.write_text(machine.sandbox.api_key)
        machine.run("check")
        until(lambda: daemon.get("/readyz").status_code == 200)
        assert daemon.leave().code == 0


@pytest.mark.parametrize("checked", [False, True])
def test_a_key_that_was_replaced_since_it_was_refused_is_tried_at_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, checked: bool, switch: Switch
) -> None:
    """The daemon's runs without its timers, which wait a minute at least."""
    machine = make(extra={"BEAMER_API_KEY": "", "CONNECTOR_ALERT_URL": switch.url})
    file = machine.here / "key"
    file.write_text("rotated-too-late")
    machine.extra["BEAMER_API_KEY_FILE"] = str(file)
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    here = open_session(None, None, logs=False)
    with here.database() as database:
        worker = Worker(Runner(here, database, LogReporter(Output.JSON)), here.settings.connections)
        assert worker.run("sync", "default").exit == Exit.REFUSED
        asked = machine.asked()
        assert worker.run("sync", "default").exit == Exit.REFUSED
        assert machine.asked() == asked
        file.write_text(machine.sandbox.api_key)
        if checked:
            assert machine.run("check").code == 0
        assert worker.run("sync", "default").exit == Exit.DONE
    machine.all_there_once()
    assert [text.split(".")[0] for text in switch.texts] == [
        "beamer-segment: connection 'default' is suspended, it was healthy"
    ], "one an hour"


def test_ready_only_with_a_store(make: Make, postgres_url: str) -> None:
    machine = make(database_url=postgres_url)
    with schedule(machine) as daemon:
        until(lambda: bool(daemon.ended()))
        database = open_database(postgres_url)
        with database.write() as db:
            db.exec_driver_sql("UPDATE beamer_segment_alembic_version SET version_num = 'else'")
        assert "revision else" in daemon.get("/readyz").text
        with database.write() as db:
            db.exec_driver_sql("DROP TABLE beamer_segment_refusal CASCADE")
            db.exec_driver_sql("UPDATE beamer_segment_alembic_version SET version_num = '0001'")
        database.close()
        assert daemon.get("/readyz").status_code == 503
        assert daemon.get("/metrics").status_code == 503
        assert daemon.get("/healthz").status_code == 200
        assert daemon.leave().code == 0


def test_not_ready_once_its_file_has_gone(machine: Machine) -> None:
    with schedule(machine) as daemon:
        until(lambda: bool(daemon.ended()))
        assert daemon.get("/readyz").status_code == 200
        asked, away = machine.asked(), machine.file.rename(machine.file.with_name("away"))
        ready = daemon.get("/readyz")
        assert (ready.status_code, "was removed while this process used it" in ready.text) == (503, True)
        machine.file.touch()
        ready = daemon.get("/readyz")
        assert (ready.status_code, "was replaced by another file" in ready.text) == (503, True)
        assert daemon.get("/healthz").status_code == 200
        away.replace(machine.file)
        assert daemon.get("/readyz").status_code == 200
        assert machine.asked() == asked
        assert daemon.leave().code == 0


def test_a_taken_port_is_said(machine: Machine) -> None:
    with schedule(machine) as daemon:
        ended = machine.run("schedule", "--bind", daemon.url.removeprefix("http://"))
        assert (ended.code, "cannot be served" in ended.err) == (78, True)
        assert daemon.leave().code == 0


def test_two_processes_share_their_connections(make: Make, postgres_url: str) -> None:
    names = [f"c{number}" for number in range(6)]
    machine = accounts(make, names, database_url=postgres_url)
    assert machine.run("db", "upgrade").code == 0
    with schedule(machine, number=0) as one, schedule(machine, number=1) as other:
        until(lambda: len(one.ended()) + len(other.ended()) >= len(names), 60)
        assert one.leave().code == other.leave().code == 0
    assert sorted(line["connection"] for line in one.ended() + other.ended()) == names
    database = open_database(postgres_url)
    assert sorted(run["connection"] for run in runs.recent(database, None, 100)) == names
    database.close()

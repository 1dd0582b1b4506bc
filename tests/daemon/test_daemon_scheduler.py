"""The loop itself: timers, turns between processes, and what becomes of failures. Time runs fast here."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event, Lock

import pytest

from connector.clock import SystemClock
from connector.daemon.scheduler import BETWEEN_HINTED, COLLECTED, Kind, Pace, RunResult, Scheduler
from connector.domain.hints import ANYWHERE, NewHint, ReadHint
from connector.errors import DatabaseUnreachable
from connector.state import hints, runs, schema
from connector.state.engine import Database, open_database
from connector.state.runs import Due
from tests.cli.process import until
from tests.soak.clock import FastClock

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# An hour of the clock is six seconds.
SPEED = 600.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url, workers=4)
    schema.ready(database, START)
    yield database
    database.close()


class Jobs:
    """Work that only counts; `does` says how each ends."""

    def __init__(self, does: Callable[[Kind, str], RunResult] = lambda _kind, _name: RunResult(0)) -> None:
        self.done: Counter[tuple[str, str]] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most = 0
        self._does = does
        self._lock = Lock()

    def __call__(self, kind: Kind, name: str) -> RunResult:
        with self._lock:
            self.at_once[name] += 1
            self.most = max(self.most, self.at_once.total())
            assert self.at_once[name] == 1
        try:
            return self._does(kind, name)
        finally:
            with self._lock:
                self.done[kind, name] += 1
                self.at_once[name] -= 1


@contextmanager
def going(
    database: Database,
    jobs: Jobs,
    names: tuple[str, ...] = ("a",),
    *,
    clock: SystemClock | None = None,
    audited: tuple[str, ...] = (),
    workers: int = 4,
    least: timedelta = 5 * MINUTE,
) -> Iterator[Scheduler]:
    clock = clock or FastClock(START, SPEED)
    pace = Pace(least, 60 * MINUTE)
    scheduler = Scheduler(names, audited, jobs, database, clock, pace, workers, chance=lambda: 0.5)
    scheduler.start()
    try:
        yield scheduler
    finally:
        clock.stop()
        assert scheduler.drain(10)


def test_each_is_synced_at_its_pace(database: Database) -> None:
    jobs = Jobs()
    with going(database, jobs, ("a", "b")):
        until(lambda: jobs.done["sync", "a"] >= 3 and jobs.done["sync", "b"] >= 3)
    assert abs(jobs.done["sync", "a"] - jobs.done["sync", "b"]) <= 1


def test_a_job_that_fails_or_breaks_goes_on_ever_later(database: Database) -> None:
    def breaks(_kind: Kind, name: str) -> RunResult:
        if name == "breaks":
            raise DatabaseUnreachable("gone") if jobs.done["sync", name] % 2 else ValueError("odd")
        return RunResult(69)

    jobs = Jobs(breaks)
    with going(database, jobs, ("fails", "breaks")) as scheduler:
        until(lambda: jobs.done["sync", "fails"] >= 3 and jobs.done["sync", "breaks"] >= 3)
        assert scheduler.silence < 10
    due = runs.load_dues(database)["fails"]
    assert due.failures >= 3


def test_the_number_of_workers_is_kept(database: Database) -> None:
    free = Event()

    def waits(_kind: Kind, _name: str) -> RunResult:
        free.wait(10)
        return RunResult(0)

    jobs = Jobs(waits)
    with going(database, jobs, tuple("abcdef"), workers=2):
        until(lambda: jobs.at_once.total() == 2)
        free.set()
        until(lambda: len(jobs.done) == 6)
    assert jobs.most == 2


def test_two_share_the_work(database: Database) -> None:
    """Each connection once a turn, whoever does it: never twice within the least time between two."""
    clock, names = FastClock(START, SPEED), tuple(f"c{number}" for number in range(12))
    begun: list[tuple[str, datetime]] = []

    def noted(_kind: Kind, name: str) -> RunResult:
        begun.append((name, clock.now()))
        return RunResult(0)

    one, other = Jobs(noted), Jobs(noted)
    with going(database, one, names, clock=clock), going(database, other, names, clock=clock):
        until(lambda: min((one.done + other.done)["sync", name] for name in names) >= 3)
    for name in names:
        moments = sorted(at for each, at in begun if each == name)
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert min(gaps) >= 5 * MINUTE
    assert one.done
    assert other.done


def test_what_waits_for_segment_is_delivered_between_syncs(database: Database) -> None:
    ends = {"sync": RunResult(69, waiting=7), "deliver": RunResult(69, waiting=7)}
    jobs = Jobs(lambda kind, _name: ends[kind])
    with going(database, jobs, least=30 * MINUTE):
        until(lambda: jobs.done["deliver", "a"] == 2)
        assert jobs.done["sync", "a"] == 1
        ends["deliver"] = RunResult(0)
        until(lambda: jobs.done["deliver", "a"] == 3)
        ends["sync"] = RunResult(0)
        until(lambda: jobs.done["sync", "a"] == 3)
    assert jobs.done["deliver", "a"] == 3


def test_an_audit_once_a_week_where_it_was_wanted(database: Database) -> None:
    clock = FastClock(START, SPEED * 400)
    for name, days in (("late", 8), ("lately", 1)):
        runs.begin(database, name, "audit", START - timedelta(days=days))
    jobs = Jobs()
    names = ("late", "lately", "limited")
    with going(database, jobs, names, clock=clock, audited=("late", "lately"), least=timedelta(days=2)):
        until(lambda: jobs.done["audit", "late"] >= 2)
    assert 0 < jobs.done["audit", "lately"] <= jobs.done["audit", "late"]
    assert jobs.done["audit", "limited"] == 0


def test_what_was_stopped_is_due_at_the_next_start(database: Database) -> None:
    stopped = Jobs(lambda _kind, _name: RunResult(0, stopped=True))
    clock = FastClock(START, SPEED)
    with going(database, stopped, clock=clock):
        until(lambda: bool(stopped.done))
    jobs = Jobs()
    with going(database, jobs, clock=FastClock(clock.now(), SPEED)):
        until(lambda: bool(jobs.done), 5)


def test_a_clock_set_back_does_not_stop_it_for_ever(database: Database) -> None:
    runs.save_due(database, "a", Due(START + timedelta(days=300)))
    jobs = Jobs()
    with going(database, jobs):
        until(lambda: bool(jobs.done))


class AheadClock(SystemClock):
    """This machine's, as it is until somebody sets it right."""

    ahead = timedelta(hours=8)

    def now(self) -> datetime:
        return super().now() + self.ahead


def test_a_clock_set_back_while_it_runs_delays_nothing(database: Database) -> None:
    """Such as one that came from a machine's battery, in local time, before the network's was known."""
    clock, jobs = AheadClock(), Jobs()
    with going(database, jobs, ("a", "b"), clock=clock) as scheduler:
        scheduler.keep_time()
        assert not jobs.done
        clock.ahead = timedelta(0)
        scheduler.keep_time()
        until(lambda: len(jobs.done) == 2, 5)


def test_hints_have_a_connection_synced_soon_and_not_too_often(database: Database) -> None:
    """Whoever stored them; a run that has seen them all is not repeated."""
    begun: list[datetime] = []

    def does(kind: Kind, name: str) -> RunResult:
        if kind == "hints":
            begun.append(clock.now())
            runs.begin(database, name, "hints", clock.now())
        return RunResult(0)

    clock, jobs = FastClock(START, 60.0), Jobs(does)
    with going(database, jobs, ("a", "b"), clock=clock, least=50 * MINUTE) as scheduler:
        until(lambda: jobs.done["sync", "a"] == 1)

        def hint() -> None:
            hints.add(database, "a", [NewHint("nps")], clock.now())
            scheduler.check_for_hints()

        sent = clock.now()
        hint()
        hint()
        until(lambda: jobs.done["hints", "a"] == 1)
        assert begun[0] - sent >= COLLECTED
        scheduler.check_for_hints()
        hint()
        until(lambda: jobs.done["hints", "a"] == 2)
        assert begun[1] - begun[0] >= BETWEEN_HINTED
        for _ in range(5):
            scheduler.check_for_hints()
            Event().wait(0.2)
    assert jobs.done == {("sync", "a"): 1, ("sync", "b"): 1, ("hints", "a"): 2}


def test_hints_that_go_on_coming_put_off_no_sync(database: Database) -> None:
    jobs = Jobs()
    clock = FastClock(START, 20.0)
    with going(database, jobs, clock=clock, least=50 * MINUTE) as scheduler:
        until(lambda: jobs.done["sync", "a"] == 1)

        def synced_for_a_hint() -> bool:
            hints.add(database, "a", [NewHint("nps")], clock.now())
            scheduler.hint_came("a")
            scheduler.check_for_hints()
            return jobs.done["hints", "a"] > 0

        until(synced_for_a_hint)


def test_a_hint_that_is_kept_has_its_connection_synced_when_the_row_is_settled(database: Database) -> None:
    begun: list[datetime] = []

    def does(kind: Kind, name: str) -> RunResult:
        if kind == "hints":
            runs.begin(database, name, "hints", clock.now())
            begun.append(clock.now())
            left = 1 if len(begun) == 1 else 0
            with database.write() as db:
                hints.read(db, name, [ReadHint("nps", ANYWHERE, 1, 0, left, 5 * MINUTE)], clock.now())
        return RunResult(0)

    clock, jobs = FastClock(START, 60.0), Jobs(does)
    with going(database, jobs, clock=clock, least=50 * MINUTE) as scheduler:
        until(lambda: jobs.done["sync", "a"] == 1)
        hints.add(database, "a", [NewHint("nps")], clock.now())

        def looked() -> bool:
            scheduler.check_for_hints()
            return jobs.done["hints", "a"] == 2

        until(looked)
    assert begun[1] - begun[0] >= 5 * MINUTE

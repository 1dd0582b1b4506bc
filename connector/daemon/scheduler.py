"""The scheduler: when each connection is due, and its runs in threads, until a stop is requested."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor  # type: ignore[import-untyped]
from apscheduler.jobstores.base import JobLookupError  # type: ignore[import-untyped]
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]
from structlog.contextvars import bound_contextvars

from connector.clock import SystemClock, timer
from connector.errors import ConnectorError, Exit
from connector.reporting.metrics import Sample
from connector.state import hints, runs
from connector.state.engine import Database
from connector.state.runs import Due

JITTER = 0.1
# Waiting messages are tried again soon, then at growing intervals.
DELIVERY, MOST_DELIVERY = timedelta(minutes=1), timedelta(minutes=15)
AUDIT = timedelta(days=7)
# Hints are collected for this time before their connection is synced, at most this often.
COLLECTED, BETWEEN_HINTED = timedelta(seconds=5), timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run: its exit code and number, and how many messages wait for Segment.

    `again`: when a request is worth sending again; None without a monthly limit. `stopped`: by a signal.
    """

    exit: int
    run: int | None = None
    again: datetime | None = None
    waiting: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """The shortest (`least`) and longest (`most`) time between two syncs of a connection."""

    least: timedelta
    most: timedelta

    def after(self, ended: RunResult, before: Due | None, now: datetime, chance: float) -> Due:
        """Return when to sync next; `chance`, from 0 to 1, spreads connections whose runs ended together."""
        failures = before.failures if before else 0
        if ended.exit == Exit.BUSY:
            return Due(now + self._spread(self.least, chance), failures)
        if ended.exit in (Exit.DONE, Exit.QUARANTINED):
            return Due(now + self._spread(ended.again - now if ended.again else self.least, chance))
        # Doubled at each failure; bounded, because a timedelta cannot hold any power.
        return Due(now + self._spread(self.least * (1 << min(failures, 20)), chance), failures + 1)

    def _spread(self, pause: timedelta, chance: float) -> timedelta:
        later = max(self.least, pause) * (1 + JITTER * chance)
        if later <= self.most:
            return later
        return max(self.least, self.most * (1 - JITTER * chance))


def delivery_after(tries: int) -> timedelta:
    """Return how long to wait before waiting messages are tried again."""
    return min(MOST_DELIVERY, DELIVERY * (1 << min(tries, 10)))


log = structlog.get_logger()
# This module logs the jobs itself, with their connection.
logging.getLogger("apscheduler").setLevel(logging.ERROR)

Kind = Literal["sync", "deliver", "audit", "hints"]
Work = Callable[[Kind, str], RunResult]

# The clocks of two processes may differ: a sync due within this time is due.
SLACK = timedelta(seconds=1)
BEAT_SECONDS = 5
# A late job runs once, and never twice at the same time.
DEFAULTS = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


class Scheduler:
    """Runs `work` for each connection when it is due; no error in it stops the loop.

    `audited` are the connections with a weekly audit: those without a monthly limit, whose planner does not
    plan audits.
    """

    def __init__(
        self,
        names: Collection[str],
        audited: Collection[str],
        work: Work,
        database: Database,
        clock: SystemClock,
        pace: Pace,
        workers: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.names = tuple(names)
        self._audited = tuple(audited)
        self._work = work
        self._database = database
        self._clock = clock
        self._pace = pace
        self._chance = chance
        executors = {"default": ThreadPoolExecutor(workers), "pulse": ThreadPoolExecutor(1)}
        self._timers = BackgroundScheduler(timezone=UTC, executors=executors, job_defaults=DEFAULTS)
        self._elapsed = timer()
        self._beat_at = 0.0
        self._wall_was = (0.0, self._wall)
        self._state = threading.Condition()
        self._running = 0
        self._began: dict[tuple[Kind, str], float] = {}
        self._runs: Counter[tuple[str, str]] = Counter()
        self._due: dict[str, datetime] = {}
        self._tries: Counter[str] = Counter()
        # The newest hint of each connection that a run has seen, and left because it had too few requests.
        self._hints_seen: dict[str, datetime] = {}

    def start(self) -> None:
        """Set every timer; overdue connections begin at once, as workers are free."""
        now, known = self._clock.now(), runs.load_dues(self._database)
        for name in self.names:
            at = known[name].at if name in known else now
            self._set("sync", name, min(at, now + self._pace.most))
        for name in self._audited:
            last = runs.last_of(self._database, name, "audit")
            self._set("audit", name, (last or now) + AUDIT * (1 - 0.1 * self._chance()))
        self._timers.add_job(self._beat, IntervalTrigger(seconds=BEAT_SECONDS), executor="pulse")
        self._timers.start()
        log.info("schedule_started", connections=len(self.names))

    def drain(self, seconds: float) -> bool:
        """Start no more runs and wait for those in progress; return False if the time was too short."""
        log.info("schedule_draining", running=self._running)
        self._timers.shutdown(wait=False)
        with self._state:
            return self._state.wait_for(lambda: not self._running, seconds)

    def hint_came(self, name: str) -> None:
        """Sync a connection soon after a hint was stored; further hints are collected until then."""
        self._set_for_hint(name, self._clock.now())

    def check_for_hints(self) -> None:
        """Sync connections with readable hints that no run has seen, whichever process stored them.

        Call it every few seconds, like `keep_time`.
        """
        try:
            for name, at in hints.newest(self._database, self._clock.now()).items():
                if name in self.names and at != self._hints_seen.get(name):
                    if self._was_seen(name, at):
                        self._hints_seen[name] = at
                    else:
                        self._set_for_hint(name, at)
        except ConnectorError as error:
            log.warning("job_failed", code=error.code, error=error.what)

    def _was_seen(self, name: str, at: datetime) -> bool:
        """Return whether a run has begun since a hint could be read."""
        last = runs.last_begun(self._database, name)
        return bool(last and at < last <= self._clock.now())

    def _set_for_hint(self, name: str, at: datetime) -> None:
        now = self._clock.now()
        # A clock that was set back must not delay a sync for long.
        due = min(max(now, at + COLLECTED), now + BETWEEN_HINTED)
        job = self._timers.get_job(f"hints {name}")
        if job is None or job.next_run_time > self._clock.on_the_wall(due):
            self._set("hints", name, due)

    def keep_time(self) -> None:
        """Move all timers if the wall clock was set back; otherwise they would wait as much longer.

        Call it every few seconds, from a thread that does not wait for a timer.
        """
        (before, was), elapsed, wall = self._wall_was, self._elapsed(), self._wall
        self._wall_was = elapsed, wall
        back = was + timedelta(seconds=elapsed - before) - wall
        if back <= SLACK:
            return
        log.warning("clock_set_back", seconds=round(back.total_seconds()))
        for job in self._timers.get_jobs():
            # A job that has just run may be gone.
            with suppress(JobLookupError):
                self._timers.modify_job(job.id, next_run_time=job.next_run_time - back)

    @property
    def _wall(self) -> datetime:
        return self._clock.on_the_wall(self._clock.now())

    @property
    def silence(self) -> float:
        """Return the seconds since the loop last ran."""
        return self._elapsed() - self._beat_at

    @property
    def under_way(self) -> dict[str, float]:
        """Return the connections with a run in progress, and for how many seconds."""
        with self._state:
            return {name: self._elapsed() - began for (_, name), began in self._began.items()}

    def samples(self) -> list[Sample]:
        """Return the scheduler's own metrics."""
        with self._state:
            running, runs, due = self._running, dict(self._runs), dict(self._due)
        return [
            Sample("schedule_running", (), running),
            Sample("schedule_heartbeat_seconds", (), self.silence),
            *(Sample("schedule_runs_total", labels, count) for labels, count in sorted(runs.items())),
            *(
                Sample("schedule_due_timestamp_seconds", (n,), at.timestamp())
                for n, at in sorted(due.items())
            ),
        ]

    def _beat(self) -> None:
        self._beat_at = self._elapsed()

    def _set(self, kind: Kind, name: str, at: datetime) -> None:
        """Set a timer again; a sync's timer repeats, in case a run ends without setting it."""
        if self._clock.stopped:
            return
        if kind == "sync":
            with self._state:
                self._due[name] = at
        wall, now = self._clock.on_the_wall, self._clock.now()
        trigger: Any = DateTrigger(wall(at))
        if kind == "sync":
            seconds = (wall(now + self._pace.most) - wall(now)).total_seconds()
            trigger = IntervalTrigger(seconds=max(1, round(seconds)))
        self._timers.add_job(
            self._go,
            trigger,
            args=(kind, name),
            id=f"{kind} {name}",
            next_run_time=wall(at),
            replace_existing=True,
        )

    def _go(self, kind: Kind, name: str) -> None:
        with self._under_way(), bound_contextvars(job=kind):
            if self._clock.stopped:
                return
            try:
                at = JOBS[kind](self, name)
            except ConnectorError as error:
                # An error of the database; a run's own errors end in its exit code.
                log.warning("job_failed", connection=name, code=error.code, error=error.what)
                at = self._clock.now() + self._pace.least
            except Exception as error:
                log.error("job_crashed", connection=name, error=type(error).__name__)
                at = self._clock.now() + self._pace.least
            if at:
                self._set(kind, name, at)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._state:
            self._running += 1
        try:
            yield
        finally:
            with self._state:
                self._running -= 1
                self._state.notify_all()

    def _sync(self, name: str) -> datetime | None:
        now, due = self._clock.now(), runs.load_dues(self._database).get(name)
        if due and now + SLACK < due.at <= now + self._pace.most:
            return due.at  # another process has synced it meanwhile
        last = runs.last_of(self._database, name, "sync")
        if last and now - self._pace.least < last <= now and (due is None or due.at > last):
            # It was synced by hand, or from cron.
            return last + self._pace.least
        if not runs.claim_due(self._database, name, due, now + self._pace.least):
            return now + SLACK
        late = (now - due.at).total_seconds() if due else 0.0
        ended = self._run("sync", name, late)
        if ended.stopped:
            # It is still due, for the process that starts next.
            runs.save_due(self._database, name, due or Due(now))
            return None
        following = self._pace.after(ended, due, self._clock.now(), self._chance())
        runs.save_due(self._database, name, following)
        self._deliver_soon(name, ended)
        return following.at

    def _hints(self, name: str) -> datetime | None:
        """Sync because of hints, without moving the next regular sync."""
        now = self._clock.now()
        at, last = hints.newest(self._database, now).get(name), runs.last_begun(self._database, name)
        if at is None or (last and at < last <= now):
            return None  # a run has seen them meanwhile
        if last and last <= now < last + BETWEEN_HINTED:
            return last + BETWEEN_HINTED  # for what has come since
        if name in self.under_way:
            return now + COLLECTED  # until that sync has ended
        ended = self._run("hints", name)
        self._deliver_soon(name, ended)
        return self._clock.now() + BETWEEN_HINTED if ended.exit == Exit.BUSY else None

    def _deliver_soon(self, name: str, ended: RunResult) -> None:
        if ended.waiting:
            self._set("deliver", name, self._clock.now() + delivery_after(self._tries[name]))

    def _deliver(self, name: str) -> datetime | None:
        self._tries[name] += 1
        ended = self._run("deliver", name)
        if not ended.waiting and ended.exit != Exit.BUSY:
            self._tries.pop(name, None)
            return None
        return self._clock.now() + delivery_after(self._tries[name])

    def _audit(self, name: str) -> datetime:
        now, last = self._clock.now(), runs.last_of(self._database, name, "audit")
        if last and last > now - AUDIT / 2:
            return last + AUDIT  # another process has done it
        ended = self._run("audit", name)
        if ended.exit in (Exit.DONE, Exit.QUARANTINED) and not ended.stopped:
            return now + AUDIT
        return now + (DELIVERY if ended.exit == Exit.BUSY else self._pace.most)

    def _run(self, kind: Kind, name: str, late: float = 0.0) -> RunResult:
        elapsed = timer()
        with self._state:
            self._began[kind, name] = self._elapsed()
        try:
            ended = self._work(kind, name)
            with self._state:
                self._runs[name, str(ended.exit)] += 1
        finally:
            with self._state:
                self._began.pop((kind, name), None)
        log.info(
            "job_ended",
            connection=name,
            run=ended.run,
            exit=ended.exit,
            seconds=round(elapsed(), 2),
            late=round(late, 1),
        )
        return ended


JOBS: Mapping[Kind, Callable[[Scheduler, str], datetime | None]] = {
    "sync": Scheduler._sync,
    "deliver": Scheduler._deliver,
    "audit": Scheduler._audit,
    "hints": Scheduler._hints,
}

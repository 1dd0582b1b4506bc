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
from connector.daemon.metrics import Sample
from connector.errors import ConnectorError, Exit
from connector.state import runs, schedule
from connector.state.engine import Database
from connector.state.schedule import Due

JITTER = 0.1
# Messages that wait for a Segment that is away: tried again soon, then ever later.
DELIVERY, MOST_DELIVERY = timedelta(minutes=1), timedelta(minutes=15)
AUDIT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: its exit code, when a request is worth sending again, and what waits for Segment.

    `again` is None without a monthly limit. `run` is its number, if it had one. `stopped`: by a signal.
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
        """When to sync next; `chance`, from 0 to 1, spreads those that ended together."""
        failures = before.failures if before else 0
        if ended.exit == Exit.BUSY:
            return Due(now + self._spread(self.least, chance), failures)
        if ended.exit in (Exit.DONE, Exit.QUARANTINED):
            wanted = ended.again - now if ended.again else self.least
            return Due(now + self._spread(wanted, chance))
        # Doubled at each failure; not a power that outgrows a timedelta.
        return Due(now + self._spread(self.least * (1 << min(failures, 20)), chance), failures + 1)

    def _spread(self, wanted: timedelta, chance: float) -> timedelta:
        wanted = max(self.least, wanted)
        if wanted * (1 + JITTER * chance) <= self.most:
            return wanted * (1 + JITTER * chance)
        return max(self.least, self.most * (1 - JITTER * chance))


def delivery_after(tries: int) -> timedelta:
    """How long to wait before waiting messages are tried again."""
    return min(MOST_DELIVERY, DELIVERY * (1 << min(tries, 10)))


log = structlog.get_logger()
# What it says of jobs is said here, with their connection.
logging.getLogger("apscheduler").setLevel(logging.ERROR)

Kind = Literal["sync", "deliver", "audit"]
Work = Callable[[Kind, str], RunResult]

# Two processes' clocks may differ: what is due within this is due.
SLACK = timedelta(seconds=1)
BEAT_SECONDS = 5
# A late job is run once, whenever its turn comes, and never beside itself.
DEFAULTS = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


class Scheduler:
    """Runs `work` for each connection when it is due; no error in it stops the loop.

    `audited` are the connections that get a weekly audit: those without a monthly limit, whose planner
    has no share of it to audit with.
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

    # --- its life ---

    def start(self) -> None:
        """Set every timer; connections that are overdue begin at once, as far as there are workers."""
        now, known = self._clock.now(), schedule.load(self._database)
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

    def keep_time(self) -> None:
        """Timers go by the wall's clock: where that was set back, move them, or none went off for so long.

        To be called every few seconds, by a thread that does not wait for a timer itself.
        """
        (before, was), elapsed, wall = self._wall_was, self._elapsed(), self._wall
        self._wall_was = elapsed, wall
        back = was + timedelta(seconds=elapsed - before) - wall
        if back <= SLACK:
            return
        log.warning("clock_set_back", seconds=round(back.total_seconds()))
        for job in self._timers.get_jobs():
            # One that has just been done may be gone.
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
        """Its own figures, for /metrics."""
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

    # --- timers ---

    def _set(self, kind: Kind, name: str, at: datetime) -> None:
        """(Re)set a timer. Should a run ever end without doing so, a sync comes round all the same."""
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
                at = TURNS[kind](self, name)
            except ConnectorError as error:
                # The database itself, for a run's own errors end in its exit code.
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

    # --- what is done ---

    def _sync(self, name: str) -> datetime | None:
        now, due = self._clock.now(), schedule.of(self._database, name)
        if due and now + SLACK < due.at <= now + self._pace.most:
            return due.at  # another process has synced it meanwhile
        last = runs.last_of(self._database, name, "sync")
        if last and now - self._pace.least < last <= now and (due is None or due.at > last):
            # Somebody has synced it by hand, or from cron.
            return last + self._pace.least
        if not schedule.claim(self._database, name, due, now + self._pace.least):
            return now + SLACK
        late = (now - due.at).total_seconds() if due else 0.0
        ended = self._run("sync", name, late)
        if ended.stopped:
            # What was due still is, for whoever starts next.
            schedule.save(self._database, name, due or Due(now))
            return None
        following = self._pace.after(ended, due, self._clock.now(), self._chance())
        schedule.save(self._database, name, following)
        if ended.waiting:
            self._set("deliver", name, self._clock.now() + delivery_after(self._tries[name]))
        return following.at

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
        finally:
            with self._state:
                self._began.pop((kind, name), None)
        with self._state:
            self._runs[name, str(ended.exit)] += 1
        log.info(
            "job_ended",
            connection=name,
            run=ended.run,
            exit=ended.exit,
            seconds=round(elapsed(), 2),
            late=round(late, 1),
        )
        return ended


TURNS: Mapping[Kind, Callable[[Scheduler, str], datetime | None]] = {
    "sync": Scheduler._sync,
    "deliver": Scheduler._deliver,
    "audit": Scheduler._audit,
}

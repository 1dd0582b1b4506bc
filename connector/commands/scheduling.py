"""`schedule`: the daemon, put together."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, NoReturn

import structlog

from connector import compose, heap
from connector.commands import reporting
from connector.commands.session import Session
from connector.commands.syncing import Wishes, attempted
from connector.commands.voice import Logging
from connector.config import Connection
from connector.ending import stopping
from connector.errors import ConnectorError, Exit
from connector.service.board import Board
from connector.service.due import Ended, Pace
from connector.service.routes import pages
from connector.service.scheduler import BEAT_SECONDS, Kind, Scheduler
from connector.state.engine import Store
from connector.state.ledger import Limits

log = structlog.get_logger()

# A run that was asked to stop ends within this, or is left to the next start: nothing is lost by it.
DRAIN_SECONDS = 20.0
# Threads besides the workers that read the store: pages, and the loop.
OTHERS = 3

WISHES = {
    "sync": Wishes((), None, deliver=True, strict=False, skip_exit=None),
    # What waits is delivered first, and nothing is asked.
    "deliver": Wishes((), 0, deliver=True, strict=False, skip_exit=None, command="deliver"),
    "audit": Wishes((), None, deliver=True, strict=False, skip_exit=None, command="audit"),
}


def schedule(here: Session, chosen: Sequence[Connection], *, new: bool = False) -> NoReturn:
    """Work until a signal comes; then finish what is under way and end the process."""
    clock, settings = here.clock, here.settings
    heap.keep_small()
    workers, pace = settings.workers, Pace(settings.interval, settings.max_interval)
    with here.store(new, workers + OTHERS) as store, stopping(clock, second_at_once=True):
        limits = {each.name: compose.limits(each) for each in chosen}
        unlimited = [name for name, limit in limits.items() if limit.usable is None]
        work = Worker(here, store, chosen)
        scheduler = Scheduler(limits, unlimited, work.run, store, clock, pace, workers)
        scheduler.start()
        with _serving(settings.bind, scheduler, store, here, chosen, limits):
            while not clock.stopped:
                clock.sleep(BEAT_SECONDS)
                scheduler.keep_time()
            drained = scheduler.drain(DRAIN_SECONDS)
    log.info("schedule_ended", drained=drained)
    # All is written and closed. A thread that hangs must not keep the process (its lease ends by itself),
    # nor what the interpreter does before it leaves, which takes seconds on a busy machine.
    os._exit(Exit.DONE)


@contextmanager
def _serving(
    bind: str,
    scheduler: Scheduler,
    store: Store,
    here: Session,
    chosen: Sequence[Connection],
    limits: Mapping[str, Limits],
) -> Iterator[None]:
    if bind == "none":
        yield
        return
    by_name = {each.name: each for each in chosen}

    def report(name: str, links: Sequence[tuple[str, str]]) -> str:
        return reporting.html(here, store, [by_name[name]], links)

    with closing(Board(bind, pages(scheduler, store, here.clock, limits, report))):
        yield


class Worker:
    """Does the scheduler's work: one run of one connection, whatever becomes of it."""

    def __init__(self, here: Session, store: Store, chosen: Sequence[Connection]) -> None:
        self._here = here
        self._store = store
        self._connections = {each.name: each for each in chosen}

    def run(self, kind: Kind, name: str) -> Ended:
        found = self._attempted(kind, name)
        if found["exit"] == Exit.REFUSED and self._has_new_keys(name):
            found = self._attempted(kind, name)
        return _ended(found, limited=compose.limits(self._connections[name]).usable is not None)

    def _attempted(self, kind: Kind, name: str) -> dict[str, Any]:
        connection, voice = self._connections[name], Logging(text=False)
        return attempted(self._here, self._store, connection, WISHES[kind], lambda _: None, voice)

    def _has_new_keys(self, name: str) -> bool:
        """A key that stands in a file may have been replaced meanwhile."""
        if self._here.reload is None:
            return False
        try:
            fresh = self._here.reload().connection(name)
        except ConnectorError as error:
            log.warning("settings_not_reloaded", connection=name, code=error.code)
            return False
        old = self._connections[name]
        if (fresh.api_key, fresh.write_key) == (old.api_key, old.write_key):
            return False
        # Only the keys: what else has changed counts from the next start on, for all alike.
        keys = {"api_key": fresh.api_key, "write_key": fresh.write_key}
        self._connections[name] = old.model_copy(update=keys)
        log.info("key_replaced", connection=name)
        return True


def _ended(found: dict[str, Any], *, limited: bool) -> Ended:
    """What the scheduler wants to know of a run's summary."""
    again = found.get("next_try") or found.get("requests_again_at") if limited else None
    return Ended(
        exit=int(found["exit"]),
        run=found.get("run"),
        again=datetime.fromisoformat(again) if again else None,
        waiting=int(found.get("waiting") or 0),
        stopped=str(found.get("stopped") or "").startswith("asked to stop"),
    )

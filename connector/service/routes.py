"""What is served where: is the loop alive, can it work, the figures, and the pages for people."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Generic, TypeVar

from connector.clock import Clock, timer
from connector.service.board import HTML, METRICS, Page, Pages, told
from connector.service.connections_page import page
from connector.service.metrics import Sample, of_store, rendered
from connector.service.report.html import policy
from connector.service.scheduler import BEAT_SECONDS, Scheduler
from connector.state import refusals, schema
from connector.state.engine import Store
from connector.state.ledger import Limits

# The loop shows itself every few seconds, also while all workers are busy.
SILENT_SECONDS = 6 * BEAT_SECONDS
KEPT_SECONDS = 5.0
# A month of runs takes a moment to add up, and pictures of days do not change by the second.
REPORT_SECONDS = 20.0
LINKS = (
    ("connections", "/connections"),
    ("metrics", "/metrics"),
    ("alive?", "/healthz"),
    ("ready?", "/readyz"),
)

# The page with pictures of one connection, with links on it: pairs of words and an address.
Report = Callable[[str, Sequence[tuple[str, str]]], str]
Seen = TypeVar("Seen")


def pages(
    scheduler: Scheduler, store: Store, clock: Clock, limits: Mapping[str, Limits], report: Report
) -> Pages:
    """What is served where; `limits` are those of the connections served here.

    `/` shows the report of a connection that is alone, and of several the table that leads to each one's.
    """
    kept = Kept(lambda: of_store(store, limits, clock.now()))
    reports = {name: f"/report/{name}" for name in limits}

    def samples() -> list[Sample]:
        return [*kept.seen(), *scheduler.samples()]

    def table() -> Page:
        return Page(page(samples(), clock.now(), reports).encode(), HTML)

    def of(name: str) -> Callable[[], Page]:
        made = Kept(lambda: report(name, LINKS).encode(), REPORT_SECONDS)
        return lambda: Page(made.seen(), HTML, policy=policy())

    found: dict[str, Callable[[], Page]] = {
        "/healthz": lambda: healthz(scheduler.silence),
        "/readyz": lambda: readyz(store, limits, draining=clock.stopped),
        "/metrics": lambda: Page(rendered(samples()), METRICS),
        "/connections": table,
        **{address: of(name) for name, address in reports.items()},
    }
    found["/"] = found[next(iter(reports.values()))] if len(reports) == 1 else table
    return found


class Kept(Generic[Seen]):
    """What was seen in the store, some seconds old at most: hundreds of accounts cost a second to look at."""

    def __init__(self, look: Callable[[], Seen], seconds: float = KEPT_SECONDS) -> None:
        self._look = look
        self._seconds = seconds
        self._lock = Lock()
        self._last: tuple[Seen, Callable[[], float]] | None = None

    def seen(self) -> Seen:
        # Whoever asks meanwhile waits for the one that looks, and shares what it saw.
        with self._lock:
            if self._last is None or self._last[1]() > self._seconds:
                self._last = (self._look(), timer())
            return self._last[0]


def healthz(silence: float) -> Page:
    """Whether the loop is alive."""
    well = silence <= SILENT_SECONDS
    return told(["ok" if well else f"the loop has been silent for {silence:.0f} s"], well=well)


def readyz(store: Store, names: Mapping[str, object], *, draining: bool) -> Page:
    """Whether it can work: the store reached and at this version's schema, no key refused."""
    wrong = ["draining"] if draining else []
    # Raises where the store is not reached, which is an answer of its own kind.
    found = schema.version(store)
    if found != schema.HEAD:
        wrong.append(f"the store is at revision {found}; this version needs {schema.HEAD}")
    else:
        suspended = [name for name in refusals.listed(store) if name in names]
        wrong += [f"a key was refused; suspended: {name}" for name in sorted(suspended)]
    return told(wrong or ["ok"], well=not wrong)

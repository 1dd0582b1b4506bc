"""A probe: one thing worth asking Beamer for, which may take several pages."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from connector.beamer.asking import Ask
from connector.beamer.catalogue import Stream
from connector.beamer.pages import Habits, Place, iso, params_of
from connector.sync.lists.looks import Look
from connector.sync.lists.sweeps import Sweep
from connector.sync.lists.windows import Window

NO_PARENT = "0"


class Turn(Enum):
    """When a probe's turn comes: by its worth alone, or at the latest in a share of all requests."""

    WORTH = "worth"
    OVERDUE = "overdue"
    HISTORY = "history"
    AUDIT = "audit"


@dataclass(slots=True)
class Probe:
    """A block of parents (`look`), a list of rows (`sweep`), or how many rows there are in a `window`.

    `reason` says why it is asked. A `sweep` with a window reads just that for the audit; `whole` is the
    window that an audit begins with, and a `thorough` one reads every window and list whole, whatever counts
    and counters say.

    `of` is the number of the list that a backfill reads with it.

    `worth` is in row-hours per request, `overdue` in hours; `needs` is how
    many requests should be at hand before it is asked, and `kept` how many of those are for its further pages
    once it is `going_on`. An `unseen` one reads pages of parents that were never seen before.
    """

    stream: Stream
    reason: str
    parent: str = NO_PARENT
    look: Look | None = None
    sweep: Sweep | None = None
    failures: int = 0
    not_before: datetime | None = None
    ignore_filters: bool = False
    habits: Habits = field(default_factory=Habits)
    worth: float = 0.0
    turn: Turn = Turn.WORTH
    overdue: float = 0.0
    needs: float = 1.0
    kept: int = 0
    going_on: bool = False
    unseen: bool = False
    audit: bool = False
    window: Window | None = None
    whole: bool = False
    thorough: bool = False
    of: int = 0

    @property
    def counts(self) -> bool:
        """Whether rows are only counted."""
        return self.window is not None and self.sweep is None

    @property
    def purpose(self) -> str:
        """What the ledger charges the request to."""
        return "audit" if self.audit else self.stream.name

    @property
    def block_look(self) -> Look:
        """The look of a probe that is known to read a block of parents."""
        if self.look is None:
            raise ValueError("this probe reads no block")
        return self.look

    @property
    def list_sweep(self) -> Sweep:
        """The sweep of a probe that is known to read a list of rows."""
        if self.sweep is None:
            raise ValueError("this probe reads no list")
        return self.sweep

    @property
    def place(self) -> Place:
        reading = self.look or self.sweep
        if reading is None:
            raise ValueError("a probe reads a block or a list")
        return reading.place


def ask(probe: Probe, habits: Habits, *, ignore_filters: bool) -> Ask:
    """The request for a probe's next page, with documented parameters only."""
    stream = probe.stream
    if probe.window and probe.counts:
        within = {"dateFrom": iso(probe.window.since), "dateTo": iso(probe.window.until)}
        return Ask(f"{stream.path_for(probe.parent)}/count", tuple(within.items()))
    params = {**stream.params, **params_of(probe.place, habits, stream.cap)}
    if stream.filtered and ignore_filters:
        params["ignoreFilters"] = "true"
    return Ask(stream.path_for(probe.parent), tuple(params.items()))

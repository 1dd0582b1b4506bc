"""Probes: candidates for the next request, and what planning them needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from connector.beamer.pagination import Cursor, Habits, iso, params_of
from connector.beamer.request import BeamerRequest
from connector.beamer.streams import Stream, children
from connector.domain.state import Progress
from connector.sync.lists import blocks, passes
from connector.sync.lists.blocks import BlockCheck
from connector.sync.lists.count_windows import Window
from connector.sync.lists.passes import ListPass
from connector.sync.policy import Policy

NO_PARENT = "0"


class Turn(Enum):
    """When a probe's turn comes: by its priority alone, or at the latest in a share of all requests."""

    PRIORITY = "priority"
    OVERDUE = "overdue"
    HISTORY = "history"
    AUDIT = "audit"


@dataclass(slots=True)
class Probe:
    """A block of parents (`check`), a list of rows (`list_pass`), or how many rows there are in a `window`.

    `reason` says why it is asked. A `list_pass` with a window reads just that for the audit; `whole` is the
    window that an audit begins with, and a `thorough` one reads every window and list whole, whatever counts
    and counters say.

    `tries`: how many parts of the list have failed in this run; `shown`: how many pages it has had there.

    `of` is the number of the list that a backfill reads with it.

    `priority` is in row-hours per request, `overdue` in hours; `needs` is how
    many requests should be at hand before it is asked, and `kept` how many of those are for its further pages
    once it is `going_on`. An `unseen` one reads pages of parents that were never seen before. An `announced`
    one reads a list whose counter showed more than `max_age` ago that rows wait there: it comes first.
    """

    stream: Stream
    reason: str
    parent: str = NO_PARENT
    check: BlockCheck | None = None
    list_pass: ListPass | None = None
    failures: int = 0
    not_before: datetime | None = None
    ignore_filters: bool = False
    habits: Habits = field(default_factory=Habits)
    priority: float = 0.0
    turn: Turn = Turn.PRIORITY
    overdue: float = 0.0
    needs: float = 1.0
    kept: int = 0
    going_on: bool = False
    tries: int = 0
    shown: int = 0
    unseen: bool = False
    announced: bool = False
    audit: bool = False
    window: Window | None = None
    whole: bool = False
    thorough: bool = False
    of: int = 0

    @property
    def counts(self) -> bool:
        """Whether rows are only counted."""
        return self.window is not None and self.list_pass is None

    @property
    def purpose(self) -> str:
        """What the ledger charges the request to."""
        return "audit" if self.audit else self.stream.name

    @property
    def required_check(self) -> BlockCheck:
        """The check of a probe that is known to read a block of parents."""
        if self.check is None:
            raise ValueError("this probe reads no block")
        return self.check

    @property
    def required_pass(self) -> ListPass:
        """The pass of a probe that is known to read a list of rows."""
        if self.list_pass is None:
            raise ValueError("this probe reads no list")
        return self.list_pass

    @property
    def cursor(self) -> Cursor:
        reading = self.check or self.list_pass
        if reading is None:
            raise ValueError("a probe reads a block or a list")
        return reading.cursor

    @property
    def begun(self) -> bool:
        """Whether it reads a list of which a page was shown, and no newer rows are asked for first."""
        pass_ = self.list_pass
        return pass_ is not None and not pass_.front and bool(pass_.pages or pass_.hole or pass_.resumed)

    @property
    def may_be_over(self) -> bool:
        """Whether the page that is asked next may lie behind the list's last one."""
        if self.check:
            return blocks.may_be_over(self.check)
        return self.list_pass is not None and passes.may_be_over(self.list_pass)


def request_for(probe: Probe, habits: Habits, *, ignore_filters: bool) -> BeamerRequest:
    """The request for a probe's next page, with documented parameters only."""
    stream = probe.stream
    if probe.window and probe.counts:
        within = {"dateFrom": iso(probe.window.since), "dateTo": iso(probe.window.until)}
        return BeamerRequest(f"{stream.path_for(probe.parent)}/count", tuple(within.items()))
    params = {**stream.params, **params_of(probe.cursor, habits, stream.cap)}
    if stream.filtered and ignore_filters:
        params["ignoreFilters"] = "true"
    return BeamerRequest(stream.path_for(probe.parent), tuple(params.items()))


@dataclass(frozen=True, slots=True)
class Picture:
    """What a plan is made from.

    `available` requests may be spent at once and `per_day` come in; None without a limit. A run that may
    spend a few only has no more available.
    """

    catalogue: Mapping[str, Stream]
    policy: Policy
    progress: Progress
    first_page: int | None
    per_day: float | None = None
    available: float | None = None

    def child_streams(self, stream: Stream) -> tuple[Stream, ...]:
        """The child streams of a stream that are sent."""
        return tuple(
            child for child in children(self.catalogue, stream.name) if child.name in self.policy.streams
        )

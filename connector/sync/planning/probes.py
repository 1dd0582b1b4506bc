"""Probes: candidates for the next request, and the data for planning them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from connector.beamer.pagination import BeamerRequest, Cursor, Habits, iso, params_of
from connector.beamer.streams import Stream, children
from connector.domain.hints import ANYWHERE, Hints
from connector.domain.state import Progress
from connector.sync.lists import blocks, passes
from connector.sync.lists.blocks import BlockCheck
from connector.sync.lists.count_windows import Window
from connector.sync.lists.passes import Continued, ListPass
from connector.sync.policy import Policy

# The key of a hint of a list without parents.
NO_PARENT = ANYWHERE
# The purpose of requests that are sent for hints.
HINTS = "hints"


class Tier(Enum):
    """The tier of a probe in the queue: by its priority alone, or with a share of all requests.

    LAST: it failed lately, so that everything else with a sufficient priority comes first.
    """

    PRIORITY = "priority"
    LAST = "last"
    OVERDUE = "overdue"
    HISTORY = "history"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Probe:
    """A candidate for the next request: what it reads, why, and its priority.

    It reads a block of parents (`check`), a list of rows (`list_pass`), or the number of rows in a `window`;
    with the last two, the rows of that window, for the audit. `whole` is the window that an audit begins
    with, and a `thorough` one reads every window and list completely, whatever counts and counters say.
    `reading` is the key of the list in a backfill.

    `priority` is how much waiting a request clears (see estimates.py), `overdue` in hours. `needs` is how
    many requests should be available before it begins, `further_pages` of them for the pages after the
    first.
    An `unseen` one reads pages of parents that were never seen before. An `announced` one reads a list whose
    counter showed more than `max_age` ago that rows wait there: it comes first. A `hinted` one is sent for
    a hint, from the share of the requests that hints may use.
    """

    stream: Stream
    reason: str
    parent: str = NO_PARENT
    check: BlockCheck | None = None
    list_pass: ListPass | None = None
    priority: float = 0.0
    tier: Tier = Tier.PRIORITY
    overdue: float = 0.0
    needs: float = 1.0
    further_pages: int = 0
    unseen: bool = False
    announced: bool = False
    hinted: bool = False
    audit: bool = False
    window: Window | None = None
    whole: bool = False
    thorough: bool = False
    reading: tuple[str, str, int] | None = None

    @property
    def counts(self) -> bool:
        """Return whether rows are only counted."""
        return self.window is not None and self.list_pass is None

    @property
    def purpose(self) -> str:
        """Return the purpose that the ledger charges the request to."""
        return "audit" if self.audit else HINTS if self.hinted else self.stream.name

    @property
    def required_check(self) -> BlockCheck:
        """Return the check of a probe that reads a block of parents."""
        if self.check is None:
            raise ValueError("this probe reads no block")
        return self.check

    @property
    def required_pass(self) -> ListPass:
        """Return the pass of a probe that reads a list of rows."""
        if self.list_pass is None:
            raise ValueError("this probe reads no list")
        return self.list_pass

    @property
    def cursor(self) -> Cursor:
        return self.check.cursor if self.check else self.required_pass.part.cursor

    @property
    def begun(self) -> bool:
        """Return whether a page of its list was shown, so that no newer rows are requested first."""
        if self.list_pass is None or self.list_pass.progress.continued is Continued.FRONT:
            return False
        return self.list_pass.progress.pages > 0 or self.list_pass.progress.resumed

    @property
    def may_be_over(self) -> bool:
        """Return whether its next page may lie after the list's last one."""
        if self.check:
            return blocks.may_be_over(self.check)
        return self.list_pass is not None and passes.may_be_over(self.list_pass)


@dataclass(slots=True)
class Job:
    """A probe that a run reads, page by page: its next page, and its failures.

    `habits` and `ignore_filters` are those of the request in flight. Once it has `started`,
    `further_requests` are kept for further pages. `pages` were read in this run, `parts_tried` failed in it.
    """

    probe: Probe
    habits: Habits = field(default_factory=Habits)
    ignore_filters: bool = False
    failures: int = 0
    not_before: datetime | None = None
    started: bool = False
    further_requests: int = 0
    pages: int = 0
    parts_tried: int = 0

    def go_on(self, list_pass: ListPass) -> None:
        """Continue the list with this pass."""
        self.probe = replace(self.probe, list_pass=list_pass)

    def recovered(self) -> None:
        """Reset failures: a page was accepted, or another part of the list is requested."""
        self.failures, self.not_before = 0, None


def request_for(job: Job) -> BeamerRequest:
    """Return the request for a job's next page, with documented parameters only."""
    probe, habits = job.probe, job.habits
    stream = probe.stream
    if probe.window and probe.counts:
        within = {"dateFrom": iso(probe.window.since), "dateTo": iso(probe.window.until)}
        return BeamerRequest(f"{stream.path_for(probe.parent)}/count", tuple(within.items()))
    params = {**stream.params, **params_of(probe.cursor, habits, stream.cap)}
    if stream.filtered and job.ignore_filters:
        params["ignoreFilters"] = "true"
    return BeamerRequest(stream.path_for(probe.parent), tuple(params.items()))


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """The input of a plan.

    `available` requests may be spent at once and `per_day` become available; None without a limit. A run
    limited to a few has no more available. `hints` announced rows, and at most `hint_requests` may be sent
    for them; None without a limit.
    """

    catalogue: Mapping[str, Stream]
    policy: Policy
    progress: Progress
    first_page: int | None
    per_day: float | None = None
    available: float | None = None
    hints: Hints = field(default_factory=dict)
    hint_requests: int | None = None

    def child_streams(self, stream: Stream) -> tuple[Stream, ...]:
        """Return the child streams of a stream that are sent."""
        return tuple(
            child for child in children(self.catalogue, stream.name) if child.name in self.policy.streams
        )

"""What a sandbox may do: its plan, and everything that the API leaves open."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

MONTHLY: dict[str, int | None] = {
    "free": 1_000,
    "starter": 20_000,
    "pro": None,
    "scale": None,
    "starter-2026": 2_000,
    "pro-2026": 20_000,
    "scale-2026": 100_000,
}
LADDER = ("free", "starter", "pro", "scale")


def reaches(plan: str, needed: str) -> bool:
    """Whether a plan includes what is 'only available on' another one and up."""
    return LADDER.index(plan.split("-")[0]) >= LADDER.index(needed)


STREAMS = (
    "posts",
    "comments",
    "reactions",
    "nps",
    "feature_requests",
    "feature_request_comments",
    "feature_request_votes",
)


@dataclass
class Switches:
    """Each may be turned while the sandbox runs."""

    first_page: int = 0
    order: Literal["newest", "oldest", "unordered"] = "newest"
    pinned_first: bool = False
    date_from_inclusive: bool = True
    date_to_inclusive: bool = True
    counters_lag: timedelta = timedelta(0)
    counters_ignore_deletions: bool = False
    lists_lag: timedelta = timedelta(0)
    """A child list shows a row so much later than its counter counts it."""
    page_share: float = 1.0
    """A page holds this share of the rows that it usually holds, and at least two."""
    filters_after_page: bool = False
    unfiltered_count: bool = False
    native_types: bool = False
    nps_text_later: bool = False
    strict_parameters: bool = True
    ignore_filters_allowed: bool = True
    may_read: set[str] = field(default_factory=lambda: {*STREAMS, "users", "ping"})
    errors_count: bool = True
    """Whether answers of 400, 403, 404, 405 and 500 count against the month."""
    billing_day: int = 1
    rate_limit: int | None = 30
    rate_text: str = "Too many requests. Please slow down."
    segment_rate_limit: int | None = 1000
    """Events a second."""
    segment_memory: timedelta = timedelta(hours=24)

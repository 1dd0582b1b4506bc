"""What is unknown about the two APIs, as switches; the defaults are what is most likely."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

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
    limiter_clock: Callable[[], float] | None = None
    """Seconds by which both limiters go, when neither real nor sandbox time will do."""
    segment_rate_limit: int | None = 1000
    """Events a second."""
    segment_memory: timedelta = timedelta(hours=24)

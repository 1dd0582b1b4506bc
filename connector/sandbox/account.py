"""The Beamer account: its plan, its limits, and what the API reference leaves open."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from connector.sandbox.rows import STREAMS, moment
from connector.sandbox.server import Answer, RateLimiter, Request

MONTHLY: dict[str, int | None] = {
    "free": 1_000,
    "starter": 20_000,
    "pro": None,
    "scale": None,
    "starter-2026": 2_000,
    "pro-2026": 20_000,
    "scale-2026": 100_000,
}
PLAN_ORDER = ("free", "starter", "pro", "scale")


def includes(plan: str, needed: str) -> bool:
    """Return whether a plan includes a feature that needs this plan or a higher one."""
    return PLAN_ORDER.index(plan.split("-")[0]) >= PLAN_ORDER.index(needed)


@dataclass
class Switches:
    """What the API reference leaves open; each value may change while the sandbox runs."""

    first_page: int = 0
    """The number of the first page."""
    order: Literal["newest", "oldest", "unordered"] = "newest"
    pinned_first: bool = False
    date_from_inclusive: bool = True
    date_to_inclusive: bool = True
    counters_lag: timedelta = timedelta(0)
    """How much later a counter counts a row than its list shows it."""
    counters_ignore_deletions: bool = False
    lists_lag: timedelta = timedelta(0)
    """How much later a child list shows a row than its counter counts it."""
    page_share: float = 1.0
    """The share of its usual rows that a page has; a page has at least two."""
    filters_after_page: bool = False
    """Whether a page is filtered after it is cut, and so may have fewer rows than others."""
    unfiltered_count: bool = False
    """Whether `/count` counts the rows that a filter hides."""
    native_types: bool = False
    """Whether numbers and booleans are JSON's own; otherwise they are texts."""
    nps_text_later: bool = False
    """Whether an NPS response is shown before its text is written."""
    strict_parameters: bool = True
    """Whether an unknown parameter is answered with status 400."""
    ignore_filters_allowed: bool = True
    """Whether the key may use `ignoreFilters`."""
    may_read: set[str] = field(default_factory=lambda: {*STREAMS, "users", "url", "ping"})
    """What the key may read; the rest is answered with status 403."""
    errors_count: bool = True
    """Whether answers with status 400, 403, 404, 405 and 500 count towards the monthly limit."""
    billing_day: int = 1
    """The day of the month on which the monthly limit starts again."""
    rate_limit: int | None = 30
    """Requests per second; None turns the limit off."""


JSON_TYPE = {"Content-Type": "application/json;charset=utf-8"}
RATE_TEXT = "Too many requests. Please slow down."
MONTHLY_TEXT = (
    "You have reached your account's monthly requests limit. "
    "If you think this is wrong, please reach out on our Support chat."
)
NO_KEY = "No API key was provided."
BAD_KEY = "The API key is invalid."


def text_answer(status: int, text: str) -> Answer:
    """Return an answer whose body is a JSON string, as Beamer's errors are."""
    return Answer(status, json.dumps(text).encode(), dict(JSON_TYPE))


class Account:
    """Checks the key and the limits, and counts the requests of each month."""

    def __init__(self, key: str, plan: str, switches: Switches) -> None:
        self.key = key
        # Further keys of the same account.
        self.more_keys: set[str] = set()
        self.switches = switches
        self.limit = MONTHLY[plan]
        self.used: Counter[str] = Counter()
        self._limiter = RateLimiter()

    def month(self, now: float) -> str:
        """Return the billing month of a moment, as the year and month of its first day."""
        today = moment(now)
        month = today.month if today.day >= self.switches.billing_day else today.month - 1
        return f"{today.year if month else today.year - 1}-{month or 12:02d}"

    def refusal(self, request: Request, now: float, limiter_time: float | None) -> Answer | None:
        """Return the answer that refuses a request, or None if the request is allowed."""
        key = request.headers.get("beamer-api-key")
        if key != self.key and key not in self.more_keys:
            return text_answer(401, BAD_KEY if key else NO_KEY)
        limit = self.switches.rate_limit
        if limit is not None and limiter_time is not None and not self._limiter.take(limiter_time, limit):
            return text_answer(429, RATE_TEXT)
        if self.limit is not None and self.used[self.month(now)] >= self.limit:
            return text_answer(429, MONTHLY_TEXT)
        return None

    def charge(self, status: int, now: float) -> None:
        """Count a request that was not refused."""
        if status < 400 or self.switches.errors_count:
            self.used[self.month(now)] += 1

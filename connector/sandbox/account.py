"""The account at Beamer: its plan, its limits, and everything that the API's reference leaves open."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from connector.sandbox.row import STREAMS, moment
from connector.sandbox.server import Answer, Limiter, Request

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


TYPE = {"Content-Type": "application/json;charset=utf-8"}
MONTHLY_TEXT = (
    "You have reached your account's monthly requests limit. "
    "If you think this is wrong, please reach out on our Support chat."
)
NO_KEY = "No API key was provided."
BAD_KEY = "The API key is invalid."


def said(status: int, text: str) -> Answer:
    """A bare JSON string, which is how Beamer words its errors."""
    return Answer(status, json.dumps(text).encode(), dict(TYPE))


class Gate:
    """Keeps the account's books."""

    def __init__(self, key: str, plan: str, switches: Switches) -> None:
        self.key = key
        # Other keys of the same account.
        self.more_keys: set[str] = set()
        self.switches = switches
        self.limit = MONTHLY[plan]
        self.used: Counter[str] = Counter()
        self._limiter = Limiter()

    def month(self, now: float) -> str:
        """The period of the monthly limit in which a moment lies, by its first day."""
        at = moment(now)
        year, month = (at.year, at.month) if at.day >= self.switches.billing_day else (at.year, at.month - 1)
        return f"{year if month else year - 1}-{month or 12:02d}"

    def refusal(self, request: Request, now: float, tick: float | None) -> Answer | None:
        """What a request is refused with, if it is."""
        key = request.headers.get("beamer-api-key")
        if key != self.key and key not in self.more_keys:
            return said(401, BAD_KEY if key else NO_KEY)
        limit = self.switches.rate_limit
        if limit is not None and tick is not None and not self._limiter.take(tick, limit):
            return said(429, self.switches.rate_text)
        if self.limit is not None and self.used[self.month(now)] >= self.limit:
            return said(429, MONTHLY_TEXT)
        return None

    def charge(self, status: int, now: float) -> None:
        """Count a request that got through the gate."""
        if status < 400 or self.switches.errors_count:
            self.used[self.month(now)] += 1

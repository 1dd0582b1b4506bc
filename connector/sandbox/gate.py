"""What stands before the Beamer API: the key, the requests a second, the requests a month."""

from collections import Counter

from connector.sandbox.beamer import said
from connector.sandbox.limiter import Limiter
from connector.sandbox.message import Answer, Request
from connector.sandbox.plans import MONTHLY
from connector.sandbox.row import moment
from connector.sandbox.switches import Switches

MONTHLY_TEXT = (
    "You have reached your account's monthly requests limit. "
    "If you think this is wrong, please reach out on our Support chat."
)
NO_KEY = "No API key was provided."
BAD_KEY = "The API key is invalid."


class Gate:
    """Keeps the account's books."""

    def __init__(self, key: str, plan: str, switches: Switches) -> None:
        self.key = key
        self.switches = switches
        self.limit = MONTHLY[plan]
        self.spent: Counter[str] = Counter()
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
        if key != self.key:
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
            self.spent[self.month(now)] += 1
            self.used[self.month(now)] += 1

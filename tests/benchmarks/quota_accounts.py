"""The kinds of account that the quota benchmark is about, as data."""

from dataclasses import dataclass
from datetime import timedelta

from connector.config import Connection
from connector.domain.budget import Limits
from connector.sandbox import Company

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Account:
    """A company, its plan and its cron rhythm.

    `days` of history hold `posts` and `requests`, and at that pace new ones go on coming; `activity` is the
    company's own factor, on what is said below each of them and as NPS. `visitors` is the share of the
    reactions that nobody is known by, so that they are not sent. `grid` are the intervals in hours
    among which the best fixed one was looked for, on tuning seeds, and `fixed` the one that was found
    (`--tune`).
    """

    name: str
    plan: str
    posts: int
    requests: int
    days: int
    activity: float
    every: timedelta
    grid: tuple[float, ...]
    fixed: float
    visitors: float = 0.0
    history: int = 30
    """How many days before the first sync the start date lies."""
    others: tuple[tuple[str, float], ...] = ()
    """Further figures of the company, by name."""

    def company(self, seed: int) -> Company:
        """The company; late rows and deletions as they are by default."""
        # In which the activity is a factor, too; without any, nothing comes.
        per_day = 1 / self.days / self.activity if self.activity else 0.0
        return Company(
            seed=seed,
            posts=self.posts,
            requests=self.requests,
            days=self.days,
            activity=self.activity,
            posts_per_day=self.posts * per_day,
            requests_per_day=self.requests * per_day,
            visitors=self.visitors,
            **dict(self.others),  # type: ignore[arg-type]
        )

    @property
    def hourly(self) -> bool:
        return self.every == HOUR

    @property
    def limits(self) -> Limits:
        """As the settings have them by default, the first day of the month unknown."""
        connection = Connection(plan=self.plan)
        limit = connection.limit
        return Limits(limit.monthly_requests, connection.reserved, limit.requests_per_second)


FREE_GRID = (3, 4, 6, 8, 12, 16, 24)
# 60 posts in 120 days and 300 in 600: one every other day.
ACCOUNTS = {
    account.name: account
    for account in (
        Account("Free 60+30 quiet", "free", 60, 30, 120, 0.2, HOUR, FREE_GRID, 4),
        Account("Free 60+30 busy", "free", 60, 30, 120, 0.6, HOUR, FREE_GRID, 12),
        Account(
            "Free 60+30 busy, every five minutes",
            "free",
            *(60, 30, 120, 0.6, timedelta(minutes=5)),
            FREE_GRID,
            12,
        ),
        Account(
            "Free 60+30 busy, once a day",
            "free",
            *(60, 30, 120, 0.6, timedelta(days=1)),
            (24, 48, 72),
            24,
        ),
        Account(
            "Free 60+30 busy, most reactions anonymous",
            "free",
            *(60, 30, 120, 0.6, HOUR),
            FREE_GRID,
            12,
            visitors=0.85,
        ),
        Account("Free 300+100", "free", 300, 100, 600, 0.15, HOUR, (12, 24, 36, 48, 72), 36),
        Account(
            "20,000 a month, 300+150, busy",
            "starter",
            *(300, 150, 600, 1.5, HOUR),
            (1, 2, 3, 4),
            2,
        ),
    )
}

# Seeds on which anything was tuned are none of those that are reported.
TUNING_SEEDS = (901, 902, 903)
SEEDS = tuple(range(1, 101))

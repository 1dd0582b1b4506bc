"""What an account may spend, as the settings say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may spend: requests a month (None: no limit) less a reserve; a rate.

    `period_day` is the day on which Beamer's month begins; while it is None, any 31 days are a month.
    `startup` is the share of what is left of the month that a new account may spend at once.
    """

    requests: int | None
    reserve: int
    per_second: float
    period_day: int | None = None
    startup: float = 0.1

    @property
    def usable(self) -> int | None:
        return None if self.requests is None else max(0, self.requests - self.reserve)

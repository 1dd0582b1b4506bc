"""The plans of Beamer, and what an account may spend."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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


_REFERENCE = "Beamer API reference"
_VENDOR_2026 = "vendor's page, 2026-09"


@dataclass(frozen=True, slots=True)
class Plan:
    """A monthly limit (None: no limit) and a rate."""

    name: str
    monthly_requests: int | None
    requests_per_second: int
    source: str
    overage_billed: bool


_ALL = (
    Plan("free", 1_000, 30, _REFERENCE, overage_billed=False),
    Plan("starter", 20_000, 30, _REFERENCE, overage_billed=False),
    Plan("pro", None, 30, _REFERENCE, overage_billed=False),
    Plan("scale", None, 30, _REFERENCE, overage_billed=False),
    Plan("starter-2026", 2_000, 30, _VENDOR_2026, overage_billed=True),
    Plan("pro-2026", 20_000, 30, _VENDOR_2026, overage_billed=True),
    Plan("scale-2026", 100_000, 30, _VENDOR_2026, overage_billed=True),
)

PLANS: Mapping[str, Plan] = MappingProxyType({plan.name: plan for plan in _ALL})

ASSUMED = PLANS["free"]

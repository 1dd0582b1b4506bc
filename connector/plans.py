"""Beamer's plans as data: what each lets a key ask for.

The vendor has changed the figures at least twice, so each says where it was read, and every one of them
can be overridden in the configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

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

"""The plans' figures, as they were read."""

import pytest

from connector.domain.budget import ASSUMED, PLANS


@pytest.mark.parametrize(
    ("name", "monthly", "billed"),
    [
        ("free", 1_000, False),
        ("starter", 20_000, False),
        ("pro", None, False),
        ("scale", None, False),
        ("starter-2026", 2_000, True),
        ("pro-2026", 20_000, True),
        ("scale-2026", 100_000, True),
    ],
)
def test_plans(name: str, monthly: int | None, billed: bool) -> None:
    plan = PLANS[name]
    assert (plan.name, plan.monthly_requests, plan.overage_billed) == (name, monthly, billed)
    assert plan.requests_per_second == 30
    assert plan.source


def test_the_smallest_is_assumed() -> None:
    assert ASSUMED.name == "free"
    assert len(PLANS) == 7

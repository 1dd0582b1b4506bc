"""Beamer's plans: what each may spend in a month and which of them reach a gated parameter."""

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

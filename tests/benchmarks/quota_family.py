"""A family of worlds for the quota benchmark: each seed draws what its company is like.

No single figure of the planner was chosen for any of them. The fixed interval that each is measured against
is the shortest that its quota allows, reckoned from the rows that come (nobody could know it beforehand).
"""

from dataclasses import replace
from datetime import timedelta
from functools import cache
from math import ceil, exp
from random import Random

from connector.sandbox.life import CURVES, MEAN_POPULARITY, PARENTS
from tests import harness
from tests.benchmarks.quota_accounts import HOUR, Account

WORLDS = range(1, 21)
DAYS = 31
# The part of a parent's life whose rows are counted when a world is made as busy as was drawn, in hours.
LIFE = 24.0 * DAYS
FACTOR = 1.05
# A pass that the quota cuts short goes on at the next run: begun so much sooner, passes are earlier still.
# For the accounts of quota_accounts.py, 0.3 to 0.8 of the shortest was best; for worlds nobody has looked.
EAGER = 0.7
# As many rows come at all old posts together, with a tail as usual, as at so much of their number while new.
AT_OLD_ONES = 0.05


def world(number: int) -> Account:
    """Return the account of a seed."""
    rng = Random(f"family/{number}")
    posts = round(20 * 15 ** rng.random())
    requests = rng.choice((0, round(8 * 12 ** rng.random())))
    days = round(60 * 10 ** rng.random())
    every = rng.choice((1, 1, 2, 4)) * HOUR
    nps = rng.choice((0.0, 30.0 * rng.random()))
    plan = rng.choice(("free", "free", "free", "starter-2026"))
    ageing = 10 ** rng.random()
    tail = rng.choice((0.0, 1.0, 10 * rng.random()))
    popularity = 1.5 * rng.random()
    office_hours = rng.choice((1.0, 5.0 + 5.0 * rng.random()))
    history = rng.choice((0, 30))
    # So many rows a month come below posts and requests.
    rows = 50 * 12 ** rng.random()
    per_parent = dict.fromkeys(("posts", "feature_requests"), 0.0)
    for stream, curve in CURVES.items():
        burst = curve.total(0, LIFE) - curve.floor * LIFE
        per_parent[PARENTS[stream]] += burst + curve.floor * tail * LIFE
    expected = sum(
        count * (DAYS / days + AT_OLD_ONES * tail) * per_parent[stream] * exp(MEAN_POPULARITY)
        for stream, count in (("posts", posts), ("feature_requests", requests))
    )
    activity = rows / expected
    others = (
        ("popularity", popularity),
        ("ageing", ageing),
        ("tail", tail),
        ("office_hours", office_hours),
        ("nps_per_day", nps / activity),
    )
    return Account(
        f"world {number}", plan, posts, requests, days, activity, every, (), 0.0, 0.0, history, others
    )


def with_interval(account: Account, seed: int) -> Account:
    """Return the account with the fixed interval that its planner is measured against."""
    return replace(account, fixed=max(account.every / HOUR, EAGER * shortest(account, seed)))


def shortest(account: Account, seed: int) -> float:
    """Return the shortest interval in hours at which an account can be checked with its quota."""
    usable, hours = account.limits.usable, account.every / HOUR
    while usable is not None and cost(account, seed, hours) > usable:
        hours *= FACTOR
    return hours


def cost(account: Account, seed: int, hours: float) -> int:
    """Return how many requests a month of checks at an interval takes, and of reading what they show."""
    since, lists, parents = _rows(account, seed)
    requests = 0
    checks = ceil(DAYS * 24 / hours)
    for count, born in parents:
        for number in range(checks):
            known = count + sum(at <= since + number * hours * 3600 for at in born)
            requests += max(1, ceil(known / 10))
    # Scores are one list, without parents.
    requests += checks
    for moments in lists:
        found: dict[int, int] = {}
        for at in moments:
            check = int((at - since) / 3600 // hours)
            found[check] = found.get(check, 0) + 1
        requests += sum(ceil(rows / 10) for rows in found.values())
    return requests


@cache
def _rows(account: Account, seed: int) -> tuple[float, list[list[float]], list[tuple[int, list[int]]]]:
    """Return the month's beginning, when rows appear at each list, and parents before it and in it."""
    box = harness.sandbox(company=account.company(seed))
    since = box.now().timestamp()
    box.advance(timedelta(days=DAYS))
    made = box.world
    lists: dict[tuple[str, str], list[float]] = {}
    for stream in CURVES:
        for row in made._by_id[stream].values():
            if since <= row.appears_s:
                lists.setdefault((stream, row.parent_id or ""), []).append(row.appears_s)
    parents = []
    for stream in ("posts", "feature_requests"):
        dates = [row.appears_s for row in made._by_id[stream].values()]
        parents.append((sum(at < since for at in dates), [at for at in dates if at >= since]))
    return since, list(lists.values()), parents

"""How early rows could be at best on a month's quota: `python -m tests.benchmarks.lower_bound`.

A bound on the mean delay for anybody who knows every rate and checks at cron's hours. A request has a price;
each list is solved by itself (dynamic programming over the hours of the month: when to check it, given what
a check costs and what waiting costs), and the price is the one at which the bound is highest. A check of ten
parents is shared out among their lists, as if any ten that are due stood on one page; a list with news takes
one request more. History, the start, audits and the reserve of time cost nothing here. Derivation:
docs/explanation/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, log

from connector.sandbox.life import PARENTS, in_office_hours
from tests import harness
from tests.benchmarks.quota_accounts import ACCOUNTS, HOUR, SEEDS, Account
from tests.benchmarks.quota_month import MONTH
from tests.benchmarks.quota_truth import shares_sent

PAGE = 10
# Row-hours for a request. Any price gives a bound, and near the best one they hardly differ.
PRICES, PRECISION = (0.02, 500.0), 0.125


@dataclass(frozen=True)
class List:
    """Rows expected between one moment of cron and the next, and what share of them can be sent.

    `check` and `read`: what a check costs in requests, and reading what it shows, be that sent or not.
    """

    rates: tuple[float, ...]
    share: float
    check: float
    read: float

    @property
    def rows(self) -> float:
        """Return the rows that are to be sent."""
        return self.share * sum(self.rates)


@dataclass(frozen=True)
class Bound:
    """The lowest possible mean delay in hours, and the rows that are expected."""

    mean: float
    rows: float
    price: float


def bound(account: Account, seed: int, months_before: int = 0) -> Bound:
    """Return the bound of an account's month, of the first one or a later one."""
    usable, hours = account.limits.usable, account.every / HOUR
    assert usable is not None, "without a limit there is nothing to bound"
    lists = list(_lists(account, seed, months_before))
    rows = sum(each.rows for each in lists)

    def at(price: float) -> float:
        return sum(row_hours(each, price, hours) for each in lists) - price * usable

    price = _highest(at)
    return Bound(max(0.0, at(price)) / rows, rows, price)


def row_hours(of: List, price: float, hours: float) -> float:
    """Return the least sum of row-hours and of prices for one list: when to check it is chosen best.

    `hours` lie between two moments at which it may be checked. What is not found by the end waits until then.
    """
    sums = (0.0, *accumulate(of.rates))
    # Row-hours from the beginning of each span, were all its rows to wait until moment 0.
    shifts = (0.0, *accumulate(rate * (moment + 0.5) for moment, rate in enumerate(of.rates)))
    end, hours = len(of.rates), hours * of.share
    waited = [hours * (end * (sums[end] - sums[i]) - (shifts[end] - shifts[i])) for i in range(end + 1)]
    if waited[0] <= price * of.check:
        return waited[0]
    # Of a check at j after one at i: price * (check + read * (1 - exp(sums[i] - sums[j]))) and the rows'
    # waiting; what depends on j only is summed once. From the last moment back.
    best, later = waited[end], list[tuple[float, float, float]]()
    for i in range(end - 1, -1, -1):
        best = waited[i]
        if later:
            weight, here = price * of.read * exp(sums[i]), hours * sums[i]
            least = min([alone - here * j - weight * fade for alone, j, fade in later])
            best = min(best, least + price * (of.check + of.read) + hours * shifts[i])
        later.append((best + hours * (i * sums[i] - shifts[i]), float(i), exp(-sums[i])))
    return best


def _highest(at: Callable[[float], float]) -> float:
    """Return the price at which a concave function is highest."""
    low, high = (log(price) for price in PRICES)
    golden = (5**0.5 - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = at(exp(left)), at(exp(right))
    while high - low > PRECISION:
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = at(exp(right))
        else:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = at(exp(left))
    return exp(left if at_left > at_right else right)


# --- what an account's month holds -----------------------------------------------------------------------


def _lists(account: Account, seed: int, months_before: int) -> Iterator[List]:
    box = harness.sandbox(company=account.company(seed))
    box.advance(months_before * MONTH)
    begin = box.now()
    moments = [begin + number * account.every for number in range(int(MONTH / account.every) + 1)]
    box.advance(MONTH)
    world, hours = box.world, account.every / HOUR
    shares = shares_sent(world)
    # How many times as much happens as in the mean hour of a week.
    often, seldom = world.life.busiest, world.life.busiest / world.company.office_hours
    busy = [often if in_office_hours(int(moment.timestamp())) else seldom for moment in moments[:-1]]
    per_day = world.life.rates_per_day()
    # A window of ten parents shows the counters of their lists, and the newest one which parents are new.
    shared = {parent: 1 / (PAGE * list(PARENTS.values()).count(parent) + 1) for parent in PARENTS.values()}
    for stream in ("nps", *shared):
        if per_day[stream]:
            rates = tuple(per_day[stream] / 24 * hours * factor for factor in busy)
            yield List(rates, shares.get(stream, 1.0), shared.get(stream, 1.0), 0.0)
    for stream, parents in PARENTS.items():
        curve = world.life.curves[stream]
        for row in world._by_id[parents].values():
            ages = [max(0.0, (moment.timestamp() - row.starts_s) / 3600) for moment in moments]
            spans = zip(pairwise(ages), busy, strict=True)
            rates = tuple(curve.total(*span) * factor * row.appeal for span, factor in spans)
            if any(rates):
                yield List(rates, shares[stream], shared[parents], 1.0)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lower_bound", description=__doc__)
    parser.add_argument("--accounts", nargs="+", metavar="NAME", choices=ACCOUNTS, default=list(ACCOUNTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS[:3])
    parser.add_argument("--month", type=int, default=1, help="the first one, or a later one")
    given = parser.parse_args(words)
    for name in given.accounts:
        for seed in given.seeds:
            found = bound(ACCOUNTS[name], seed, given.month - 1)
            sys.stdout.write(
                f"{name}, seed {seed}, month {given.month}: {found.mean:.2f} h over {found.rows:.0f} rows, "
                f"{found.price:.1f} row-hours a request\n"
            )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

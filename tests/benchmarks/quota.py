"""How late rows are on a month's quota: `python -m tests.benchmarks.quota`, whole months in virtual time.

Compared are asking every parent (what other connectors do), looking at everything at the best fixed
interval, the planner, and the planner given the generator's true rates (the bound).
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import monotonic

import structlog

from connector.sandbox.webhooks import WebhookSwitches
from connector.sync.planning.planner import LimitedPlanner, Planner
from tests.benchmarks import quota_family, quota_table
from tests.benchmarks.quota_accounts import ACCOUNTS, SEEDS, TUNING_SEEDS, Account
from tests.benchmarks.quota_methods import EveryParent, FixedInterval
from tests.benchmarks.quota_month import Make, run_month
from tests.benchmarks.quota_results import Result, Results
from tests.benchmarks.quota_truth import Truth
from tests.sandbox import Sandbox

# The planner with webhooks, on this account.
WITH_WEBHOOKS = "Free 60+30 quiet"
WEBHOOKS = {
    "webhooks": WebhookSwitches(),
    "webhooks, 10 % lost": WebhookSwitches(lost=0.1),
    "webhooks, 10 % false": WebhookSwitches(false=0.1),
    "webhooks, all lost": WebhookSwitches(lost=1.0),
}


@dataclass(frozen=True)
class Task:
    """One month to live through; a method is one of the table's, or `fixed@HOURS` while tuning."""

    account: str
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.account, self.method, self.seed

    def run(self) -> Result:
        account = ACCOUNTS.get(self.account) or quota_family.world(self.seed)
        if self.method == "fixed" and not account.fixed:
            account = quota_family.with_interval(account, self.seed)
        webhooks = WEBHOOKS.get(self.method)
        measured = run_month(account, self.seed, maker(account, self.method), webhooks=webhooks)
        usable = account.limits.usable
        assert usable is None or measured.most <= usable, f"{self}: {measured.most} requests in 31 days"
        return Result(*self.key, measured)


def maker(account: Account, method: str) -> Make:
    """How a method's planner is made; None stands for the product's own."""
    name, _, hours = method.partition("@")

    def make(sandbox: Sandbox) -> Planner | None:
        if name == "every":
            return EveryParent()
        if name == "fixed":
            return FixedInterval(float(hours or account.fixed))
        return LimitedPlanner(Truth(sandbox.world)) if name == "bound" else None

    return make


def main(words: Sequence[str] | None = None) -> int:
    given = _arguments().parse_args(words)
    accounts = [account for name, account in ACCOUNTS.items() if _named(name, given.accounts)]
    results = Results(given.save)
    if given.tune:
        _work(
            list(_tuning(accounts, TUNING_SEEDS[: given.seeds])),
            results,
            jobs=given.jobs,
            resume=given.resume,
        )
        sys.stdout.write(_tuned(accounts, results))
        return 0
    if given.worlds:
        worlds = [quota_family.world(number) for number in range(1, given.worlds + 1)]
        tasks = [
            Task(world.name, method, number)
            for number, world in enumerate(worlds, 1)
            for method in quota_table.OF_WORLDS
        ]
        _work(tasks, results, jobs=given.jobs, resume=given.resume)
        sys.stdout.write(quota_table.worlds(worlds, results) + "\n")
        return 0
    seeds = SEEDS[: given.seeds]
    tasks = [
        Task(account.name, method, seed) for seed in seeds for account in accounts for method in given.methods
    ]
    if "planner" in given.methods and any(account.name == WITH_WEBHOOKS for account in accounts):
        tasks += [Task(WITH_WEBHOOKS, method, seed) for seed in seeds for method in WEBHOOKS]
    _work(tasks, results, jobs=given.jobs, resume=given.resume)
    draw = quota_table.markdown if given.markdown else quota_table.text
    sys.stdout.write(draw(accounts, results, seeds).rstrip() + "\n")
    sys.stdout.write(quota_table.webhooks(WITH_WEBHOOKS, ("planner", *WEBHOOKS), results, seeds))
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quota", description=__doc__)
    parser.add_argument("--accounts", nargs="+", metavar="WORDS", help="accounts whose name contains them")
    parser.add_argument(
        "--methods", nargs="+", choices=tuple(quota_table.METHODS), default=tuple(quota_table.METHODS)
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many (20; of tuning, there are 3)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    parser.add_argument("--markdown", action="store_true", help="print the tables of benchmarks.md")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="JSON lines: results are added as they come"
    )
    parser.add_argument("--resume", action="store_true", help="keep what FILE holds already")
    parser.add_argument(
        "--worlds", type=int, metavar="N", help="instead: the first N worlds of the family, a seed each"
    )
    parser.add_argument("--tune", action="store_true", help="look for the best fixed intervals only")
    return parser


def _named(name: str, wanted: Sequence[str] | None) -> bool:
    """Exactly so, if that is a name; else any whose name contains the words."""
    if not wanted:
        return True
    return name in wanted or any(word not in ACCOUNTS and word in name for word in wanted)


# --- working through the months ------------------------------------------------------------------------


def _work(tasks: Sequence[Task], results: Results, *, jobs: int, resume: bool) -> None:
    left = [task for task in tasks if not (resume and task.key in results)]
    began = monotonic()
    for number, result in enumerate(_done(left, jobs), 1):
        results.add(result)
        pace = (monotonic() - began) / number
        found = result.measured
        sys.stderr.write(
            f"{number}/{len(left)} {result.account} | {result.method} | seed {result.seed}: "
            f"mean {found.mean:.1f} h, p95 {found.p95:.1f} h, {found.requests} requests, "
            f"{found.cpu:.0f} s; about {pace * (len(left) - number) / 60:.0f} min left\n"
        )


def _done(tasks: Sequence[Task], jobs: int) -> Iterator[Result]:
    if jobs <= 1:
        _quiet()
        yield from (task.run() for task in tasks)
        return
    with ProcessPoolExecutor(jobs, initializer=_quiet) as pool:
        waiting = [pool.submit(task.run) for task in tasks]
        try:
            yield from (future.result() for future in as_completed(waiting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


# --- tuning --------------------------------------------------------------------------------------------


def _tuning(accounts: Sequence[Account], seeds: Sequence[int]) -> Iterator[Task]:
    for account in accounts:
        for hours in account.grid:
            for seed in seeds:
                yield Task(account.name, f"fixed@{hours:g}", seed)


def _tuned(accounts: Sequence[Account], results: Results) -> str:
    lines = []
    for account in accounts:
        means = {}
        for hours in account.grid:
            months = results.of(account.name, f"fixed@{hours:g}", TUNING_SEEDS).values()
            if months:
                means[hours] = fmean(month.mean for month in months)
        best = min(means, key=lambda hours: means[hours], default=None)
        said = ", ".join(f"{hours:g} h: {mean:.1f}" for hours, mean in means.items())
        lines.append(f"{account.name}: best {best} (in accounts: {account.fixed:g}); mean delays {said}\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())

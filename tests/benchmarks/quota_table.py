"""What the quota benchmark prints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from tests.benchmarks.quota_accounts import Account
from tests.benchmarks.quota_month import Measured
from tests.benchmarks.quota_results import Results

METHODS = {
    "every": "every parent",
    "fixed": "best fixed interval",
    "planner": "planner",
    "bound": "bound",
}
HEAD = ("account", "method", "rows", "mean h", "p95 h", "requests", "not yet", "behind", "cpu s")
RATIO_HEAD = ("account", "planner/bound", "(median)", "every/planner", "planner/fixed", "(median)", "p95")
# The two tables of docs/explanation/benchmarks.md.
DELAYS_HEAD = ("account", "months", "rows a month", "every parent", "fixed interval", "planner", "bound")
REACHED_HEAD = ("account", "planner : bound", "every parent : planner", "planner : fixed", "their 95 %")
# Of the family of worlds, each of which has one seed.
OF_WORLDS = ("fixed", "planner")
WORLDS_HEAD = (
    "world",
    "quota",
    "posts + requests",
    "rows",
    "fixed interval",
    "planner",
    "mean",
    "95 %",
    "oldest",
)
WEBHOOKS_HEAD = ("method", "comments, reactions, NPS", "other streams", "requests", "not yet")
Months = Mapping[str, Mapping[int, Measured]]


@dataclass(frozen=True)
class Aim:
    """What a ratio is to keep to, and whether it does."""

    text: str
    kept: Callable[[float], bool]


def at_most(limit: float) -> Aim:
    return Aim(f"≤ {limit:g}", lambda value: value <= limit)


def at_least(limit: float) -> Aim:
    return Aim(f"≥ {limit:g}", lambda value: value >= limit)


def text(accounts: Iterable[Account], results: Results, seeds: Sequence[int]) -> str:
    """All figures as plain text; averages are those of the seeds' own figures."""
    months = _months(accounts, results, seeds)
    rows = [row for account, by_method in months.items() for row in _rows(account, by_method)]
    ratios = [_ratios(account, by_method) for account, by_method in months.items()]
    return f"{_plain(HEAD, rows)}\n\n{_plain(RATIO_HEAD, ratios)}\n"


def markdown(accounts: Iterable[Account], results: Results, seeds: Sequence[int]) -> str:
    """How late rows are, and what of the aims is reached: the tables of docs/explanation/benchmarks.md.

    Of the seeds that all methods have.
    """
    delays, reached = [], []
    for account, by_method in _months(accounts, results, seeds).items():
        common = set.intersection(*(set(months) for months in by_method.values()))
        if common:
            fair = {method: {seed: months[seed] for seed in common} for method, months in by_method.items()}
            delays.append(_delays(account, fair))
            reached.append(_reached(account, fair))
    return f"{_markdown(DELAYS_HEAD, delays)}\n\n{_markdown(REACHED_HEAD, reached)}"


def worlds(accounts: Sequence[Account], results: Results) -> str:
    """How late rows are in each world of the family, in Markdown, and the spread of the ratios."""
    rows, means, tails = [], list[float](), list[float]()
    for number, account in enumerate(accounts, 1):
        fixed, planner = (results.of(account.name, method, [number]).get(number) for method in OF_WORLDS)
        if not (fixed and planner):
            continue
        means.append(planner.mean / fixed.mean)
        tails.append(planner.p95 / fixed.p95)
        rows.append(
            (
                str(number),
                f"{account.limits.requests:,}",
                f"{account.posts} + {account.requests}",
                str(planner.rows),
                *(f"{month.mean:.1f} h (95 %: {month.p95:.0f} h)" for month in (fixed, planner)),
                f"{means[-1]:.2f}",
                f"{tails[-1]:.2f}",
                f"{planner.oldest:.0f} h",
            )
        )
    if not rows:
        return _markdown(WORLDS_HEAD, rows)
    for label, of in (("smallest", min), ("median", median), ("largest", max)):
        rows.append((label, "", "", "", "", "", f"{of(means):.2f}", f"{of(tails):.2f}", ""))
    return _markdown(WORLDS_HEAD, rows)


def webhooks(account: str, methods: Sequence[str], results: Results, seeds: Sequence[int]) -> str:
    """What webhooks change on an account, of the seeds that all methods have; nothing without them."""
    by_method = {method: results.of(account, method, seeds) for method in methods}
    # Months from before webhooks were measured tell the two apart in none of their figures.
    by_method = {m: {s: each for s, each in of.items() if each.others} for m, of in by_method.items()}
    common = set.intersection(*(set(months) for months in by_method.values()))
    if not common:
        return ""
    rows = []
    for method, months in by_method.items():
        found = [months[seed] for seed in sorted(common)]
        figures = (
            fmean(each.announced for each in found) * 60,
            fmean(each.others for each in found),
            fmean(each.requests for each in found),
        )
        undelivered = fmean(each.undelivered for each in found)
        minutes, hours, requests = figures
        rows.append((method, f"{minutes:.0f} min", f"{hours:.1f} h", f"{requests:.0f}", f"{undelivered:.0f}"))
    return f"\n{_markdown(WEBHOOKS_HEAD, rows)}\n"


def _months(accounts: Iterable[Account], results: Results, seeds: Sequence[int]) -> Mapping[Account, Months]:
    return {
        account: {method: results.of(account.name, method, seeds) for method in METHODS}
        for account in accounts
    }


def _delays(account: Account, months: Months) -> tuple[str, ...]:
    planned = months["planner"].values()
    cells = []
    for method in ("every", "fixed", "planner", "bound"):
        found = months[method].values()
        mean, p95 = fmean(map(_mean, found)), fmean(map(_p95, found))
        cells.append(f"{mean:.1f} h (95 %: {p95:.0f} h)")
    return (account.name, str(len(planned)), f"{fmean(each.rows for each in planned):,.0f}", *cells)


def _reached(account: Account, months: Months) -> tuple[str, ...]:
    name, bound, _, every, fixed, _, p95 = _ratios(account, months)
    return name, bound, every, fixed, p95


def _rows(account: Account, months: Months) -> Iterable[tuple[str, ...]]:
    for method, label in METHODS.items():
        found = list(months[method].values())
        if not found:
            continue
        if method == "fixed":
            label = f"{label} ({account.fixed:g} h)"
        yield (
            account.name,
            label,
            f"{fmean(each.rows for each in found):,.0f}",
            f"{fmean(each.mean for each in found):.1f}",
            f"{fmean(each.p95 for each in found):.1f}",
            f"{fmean(each.requests for each in found):,.0f}",
            f"{fmean(each.undelivered for each in found):.0f}",
            f"{fmean(each.behind for each in found):.0f}",
            f"{fmean(each.cpu for each in found):.0f}",
        )


def _ratios(account: Account, months: Months) -> tuple[str, ...]:
    """Of the seeds that both methods have: the ratio of the averages, and the median of the ratios."""
    tenfold = account.plan == "free" and account.hourly
    fixed = at_most(0.85 if account.posts == 300 and account.plan == "free" else 1.0)
    return (
        account.name,
        _told(_ratio(months["planner"], months["bound"]), at_most(1.15)),
        _told(_median(months["planner"], months["bound"])),
        _told(_ratio(months["every"], months["planner"]), at_least(10) if tenfold else None),
        _told(_ratio(months["planner"], months["fixed"]), fixed),
        _told(_median(months["planner"], months["fixed"])),
        _told(_ratio(months["planner"], months["fixed"], _p95), at_most(1.25)),
    )


def _mean(month: Measured) -> float:
    return month.mean


def _p95(month: Measured) -> float:
    return month.p95


def _ratio(
    above: Mapping[int, Measured], below: Mapping[int, Measured], of: Callable[[Measured], float] = _mean
) -> float | None:
    both = above.keys() & below.keys()
    divisor = sum(of(below[seed]) for seed in both)
    return sum(of(above[seed]) for seed in both) / divisor if divisor else None


def _median(above: Mapping[int, Measured], below: Mapping[int, Measured]) -> float | None:
    ratios = [above[seed].mean / below[seed].mean for seed in above.keys() & below.keys() if below[seed].mean]
    return median(ratios) if ratios else None


def _told(value: float | None, aim: Aim | None = None) -> str:
    if value is None:
        return "-"
    if aim is None:
        return f"{value:.2f}"
    return f"{value:.2f} ({aim.text}{'' if aim.kept(value) else ' MISSED'})"


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

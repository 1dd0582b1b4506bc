"""What the page shows of one connection, read from the store: few statements, one pass over its runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connector.service.report import charts
from connector.service.report.chart import Chart
from connector.service.report.days import added_up, spending
from connector.state import chronicle, glance, runs
from connector.state.engine import Store
from connector.state.period import EPOCH, day_of


@dataclass(frozen=True, slots=True)
class Subject:
    """One connection: its status as `status --output json` gives it, and its pictures, none before a run."""

    name: str
    status: Mapping[str, Any]
    charts: Sequence[Chart] = ()


def gathered(store: Store | None, found: Iterable[Mapping[str, Any]], now: datetime) -> list[Subject]:
    """The connections whose status was looked up."""
    return [_subject(store, status, now) for status in found]


def _subject(store: Store | None, status: Mapping[str, Any], now: datetime) -> Subject:
    name, account = str(status["connection"]), status["account"]
    if store is None or account is None:
        return Subject(name, status)
    # The first of 30 days is the one of which no hour is deleted yet.
    since = EPOCH + timedelta(days=day_of(now - runs.KEPT) + 1)
    at_work = [each["work"] for each in status["at_work"] if not each["dead"]]
    days = added_up(
        chronicle.runs_since(store, name, since), since, now, chronicle.MOST_RUNS, at_work=at_work
    )
    first = datetime.fromisoformat(status["requests_since"])
    spent = spending(chronicle.spends_after(store, account, day_of(first) - 1), first.date(), now)
    return Subject(
        name,
        status,
        (
            charts.burn_down(status, spent, glance.account_began(store, account)),
            charts.rows(days),
            charts.delay(days),
            charts.runs(days),
            charts.purposes(spent),
            charts.completeness(status, days),
        ),
    )

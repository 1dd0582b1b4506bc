"""What the page shows of one connection, read from the database with few statements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from connector.domain.period import EPOCH, day_of
from connector.errors import StateDamaged
from connector.reporting.health import OF_WORD, of_damage
from connector.reporting.html import charts
from connector.reporting.html.chart import Chart
from connector.reporting.html.days import added_up, spending
from connector.reporting.status_json import verdict
from connector.state import queries, runs
from connector.state.engine import Database


@dataclass(frozen=True, slots=True)
class Subject:
    """One connection: its status as in `status --output json`, and its charts, none before the first run."""

    name: str
    status: Mapping[str, Any]
    charts: Sequence[Chart] = ()


def report_data_of(
    database: Database | None, found: Iterable[Mapping[str, Any]], now: datetime
) -> list[Subject]:
    """The connections whose status was looked up."""
    return [_subject(database, status, now) for status in found]


def _subject(database: Database | None, status: Mapping[str, Any], now: datetime) -> Subject:
    name, account = str(status["connection"]), status["account"]
    if database is None or account is None:
        return Subject(name, status)
    try:
        return Subject(name, status, _charts(database, name, account, status, now))
    except StateDamaged as error:
        # The pictures read more than the status: what stops them is the connection's state, too.
        found = of_damage(error)
        problems = [asdict(found), *status["problems"]]
        return Subject(name, {**status, **verdict(OF_WORD["damaged"], found), "problems": problems})


def _charts(
    database: Database, name: str, account: str, status: Mapping[str, Any], now: datetime
) -> tuple[Chart, ...]:
    # The first of 30 days is the one of which no hour is deleted yet.
    since = EPOCH + timedelta(days=day_of(now - runs.KEPT) + 1)
    at_work = [each["work"] for each in status["at_work"] if not each["dead"]]
    days = added_up(queries.runs_since(database, name, since), since, now, queries.MOST_RUNS, at_work=at_work)
    first = datetime.fromisoformat(status["requests_since"])
    spent = spending(queries.spends_after(database, account, day_of(first) - 1), first.date(), now)
    return (
        charts.burn_down(status, spent, queries.account_began(database, account)),
        charts.rows(days),
        charts.delay(days),
        charts.runs(days),
        charts.purposes(spent),
        charts.completeness(status, days),
    )

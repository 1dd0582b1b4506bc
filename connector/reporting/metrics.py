"""Metrics for Prometheus: their catalogue, and their values by the database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import structlog

from connector import __version__
from connector.domain.budget import Limits
from connector.files import READABLE_BY_ALL, put
from connector.reporting.health import WHY_EXCLUDED
from connector.state import suspensions
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.state.outbox import DEAD
from connector.state.runs import Figures, figures

PREFIX = "beamer_segment_"

Kind = Literal["gauge", "counter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, named without its prefix; `only` names the command that has it, if not all do."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    only: str = ""

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


_CONNECTION, _STREAM, _ACCOUNT = ("connection",), ("connection", "stream"), ("account",)
_DAEMON = "schedule"

METRICS: tuple[Metric, ...] = (
    Metric(
        "last_success_timestamp_seconds",
        "gauge",
        _CONNECTION,
        "When a run last exited with code 0; 0 before the first.",
    ),
    Metric("last_run_timestamp_seconds", "gauge", _CONNECTION, "When the last run ended, failed or not."),
    Metric("last_run_exit_code", "gauge", _CONNECTION, "The exit code of the last run that ended."),
    Metric("last_run_duration_seconds", "gauge", _CONNECTION, "How long the last run took."),
    Metric("suspended", "gauge", _CONNECTION, "1 while a refused key suspends the connection."),
    Metric("requests_total", "counter", _ACCOUNT, "All requests to Beamer so far, retries included."),
    Metric("requests_used", "gauge", _ACCOUNT, "Requests used this month, with those of others if entered."),
    Metric("requests_left", "gauge", _ACCOUNT, "Requests left this month; absent without a limit."),
    Metric("requests_available", "gauge", _ACCOUNT, "Requests available now; absent without a limit."),
    Metric("account_closed", "gauge", _ACCOUNT, "1 while requests are paused after repeated 429 answers."),
    Metric("account_refused", "gauge", _ACCOUNT, "1 from repeated 429 answers until Beamer answers again."),
    Metric("rows_total", "counter", _STREAM, "New rows read."),
    Metric("events_total", "counter", _STREAM, "Events made of rows."),
    Metric("events_sent_total", "counter", _STREAM, "Events that Segment has confirmed."),
    Metric("rows_excluded_total", "counter", (*_STREAM, "reason"), "Rows excluded by a setting."),
    Metric("rows_quarantined_total", "counter", _STREAM, "Rows that went into quarantine."),
    Metric("quarantined_rows", "gauge", _CONNECTION, "Rows in quarantine now; kept for 30 days."),
    Metric("newest_row_timestamp_seconds", "gauge", _STREAM, "The date of the newest row."),
    Metric("newest_row_delay_seconds", "gauge", _STREAM, "How old the newest row was when it was read."),
    Metric(
        "complete_through_timestamp_seconds",
        "gauge",
        _STREAM,
        "All rows up to this date that Beamer shows are read.",
    ),
    Metric("counters_distrusted", "gauge", _STREAM, "1 while the stream's counters are untrusted."),
    Metric("stream_in_trouble", "gauge", _STREAM, "1 while the stream cannot be read; `status` says why."),
    Metric("hints", "gauge", _STREAM, "Rows that webhooks announced in the last 30 days, and more."),
    Metric("hints_confirmed", "gauge", _STREAM, "Of them, those of which a row was found."),
    Metric("hints_waiting", "gauge", _STREAM, "Of them, those whose list is not read yet."),
    Metric("outbox_messages", "gauge", _CONNECTION, "Messages that wait for Segment."),
    Metric(
        "outbox_oldest_timestamp_seconds",
        "gauge",
        _CONNECTION,
        "When the oldest of them was made; absent while none waits.",
    ),
    Metric("dead_letters", "gauge", _CONNECTION, "Messages that Segment refused; kept for 30 days."),
    Metric("build_info", "gauge", ("version",), "1, with the version."),
    Metric("schedule_runs_total", "counter", ("connection", "exit"), "Runs by exit code.", _DAEMON),
    Metric("schedule_due_timestamp_seconds", "gauge", _CONNECTION, "When the next sync is due.", _DAEMON),
    Metric("schedule_running", "gauge", (), "Runs in progress.", _DAEMON),
    Metric("schedule_heartbeat_seconds", "gauge", (), "Seconds since the loop last ran.", _DAEMON),
    Metric(
        "webhook_requests_total",
        "counter",
        ("connection", "status"),
        "Webhooks by the status of the answer: 202 accepted, 401 wrong secret or connection.",
        _DAEMON,
    ),
)

BY_NAME = {metric.name: metric for metric in METRICS}


log = structlog.get_logger()

SUMS = {
    "rows": "rows_total",
    "events": "events_total",
    "sent": "events_sent_total",
    "quarantined": "rows_quarantined_total",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric of the catalogue; `labels` in the catalogue's order."""

    name: str
    labels: tuple[str, ...]
    value: float


def of_database(database: Database, limits: Mapping[str, Limits], now: datetime) -> list[Sample]:
    """Return the metrics of the connections in `limits`, from the database."""
    data, suspended = figures(database, now), suspensions.listed(database)
    samples = [Sample("build_info", (__version__,), 1)]
    samples += (Sample("suspended", (name,), name in suspended) for name in limits)
    for part in (_runs, _streams, _sums, _hints, _messages):
        samples += (sample for sample in part(data, limits) if sample.labels[0] in limits)
    return samples + list(_accounts(database, data, limits, now))


def _runs(data: Figures, limits: Mapping[str, Limits]) -> Iterator[Sample]:
    known = {row.name for row in data.runs}
    for name in (name for name in limits if name not in known):
        yield Sample("last_success_timestamp_seconds", (name,), 0)
    for row in data.runs:
        succeeded = row.succeeded.timestamp() if row.succeeded else 0
        yield Sample("last_success_timestamp_seconds", (row.name,), succeeded)
        if row.finished_at:
            yield Sample("last_run_timestamp_seconds", (row.name,), row.finished_at.timestamp())
            yield Sample("last_run_exit_code", (row.name,), row.exit)
            took = (row.finished_at - row.started_at).total_seconds()
            yield Sample("last_run_duration_seconds", (row.name,), took)


def _streams(data: Figures, _: object) -> Iterator[Sample]:
    for row in data.streams:
        labels = (row.connection, row.name)
        if row.newest:
            yield Sample("newest_row_timestamp_seconds", labels, row.newest.timestamp())
        if row.complete_through:
            yield Sample("complete_through_timestamp_seconds", labels, row.complete_through.timestamp())
        if row.delay is not None:
            yield Sample("newest_row_delay_seconds", labels, row.delay)
        yield Sample("counters_distrusted", labels, bool(row.distrusted))
        yield Sample("stream_in_trouble", labels, row.trouble is not None)


def _sums(data: Figures, _: object) -> Iterator[Sample]:
    for row in data.sums:
        labels, count = (row.connection, row.stream), row._mapping["count"]
        if row.what in SUMS:
            yield Sample(SUMS[row.what], labels, count)
        elif row.what in WHY_EXCLUDED:
            yield Sample("rows_excluded_total", (*labels, row.what), count)


def _hints(data: Figures, _: object) -> Iterator[Sample]:
    for row in data.hints:
        labels = (row.connection, row.stream)
        yield Sample("hints", labels, row.received)
        yield Sample("hints_confirmed", labels, row.confirmed)
        yield Sample("hints_waiting", labels, row.waiting)


def _messages(data: Figures, limits: Mapping[str, Limits]) -> Iterator[Sample]:
    waiting, dead, oldest = dict.fromkeys(limits, 0), dict.fromkeys(limits, 0), dict[str, datetime]()
    for row in data.messages:
        if row.state == DEAD:
            dead[row.connection] = row.messages
        else:
            waiting[row.connection] = waiting.get(row.connection, 0) + row.messages
            oldest[row.connection] = min(row.oldest, oldest.get(row.connection, row.oldest))
    for name in limits:
        yield Sample("outbox_messages", (name,), waiting[name])
        yield Sample("dead_letters", (name,), dead[name])
        yield Sample("quarantined_rows", (name,), data.quarantined.get(name, 0))
        if name in oldest:
            yield Sample("outbox_oldest_timestamp_seconds", (name,), oldest[name].timestamp())


def _accounts(
    database: Database, data: Figures, limits: Mapping[str, Limits], now: datetime
) -> Iterator[Sample]:
    user = {row.account: row.name for row in data.runs if row.name in limits}
    for row in data.accounts:
        if name := user.get(row.name):
            labels = (row.name,)
            balance = Ledger(database, row.name, name, limits[name]).balance(now)
            yield Sample("requests_total", labels, row.drawn)
            yield Sample("requests_used", labels, balance.used)
            if balance.left is not None and balance.level is not None:
                yield Sample("requests_left", labels, balance.left)
                yield Sample("requests_available", labels, int(balance.level))
            yield Sample("account_closed", labels, balance.closed_until is not None)
            yield Sample("account_refused", labels, balance.refused)


# --- the format ---


class _Collector:
    """Passes samples to prometheus-client, in the order of the catalogue."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_name.setdefault(sample.name, []).append(sample)

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        for metric in METRICS:
            if samples := self._by_name.get(metric.name):
                family = families[metric.kind](metric.full_name, metric.help, labels=metric.labels)
                for sample in samples:
                    family.add_metric(sample.labels, float(sample.value))
                yield family


def rendered(samples: Sequence[Sample]) -> bytes:
    """Return the text that Prometheus reads."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(samples))
    return generate_latest(registry)


def write_file(path: Path, samples: Sequence[Sample]) -> None:
    """Write a file for node-exporter's textfile collector (*.prom); a failure is only a warning."""
    try:
        put(path, rendered(samples), READABLE_BY_ALL)
    except OSError as error:
        log.warning("metrics_file_not_written", file=str(path), error=error.strerror)

"""The metrics as data: what /metrics, the text file, the README's table and alert rules are made from."""

from dataclasses import dataclass
from typing import Literal

PREFIX = "beamer_segment_"

Kind = Literal["gauge", "counter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, named without its prefix; `only` says where it is found, if not everywhere."""

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
        "When a run last ended with 0; 0 before the first.",
    ),
    Metric("last_run_timestamp_seconds", "gauge", _CONNECTION, "When the last run ended, however it did."),
    Metric("last_run_exit_code", "gauge", _CONNECTION, "The exit code of the last run."),
    Metric("last_run_duration_seconds", "gauge", _CONNECTION, "How long the last run took."),
    Metric("suspended", "gauge", _CONNECTION, "1 while a refused key suspends the connection."),
    Metric("requests_total", "counter", _ACCOUNT, "Requests to Beamer, ever, retries included."),
    Metric("requests_used", "gauge", _ACCOUNT, "Requests of this month, others' as far as they were told."),
    Metric("requests_left", "gauge", _ACCOUNT, "Requests left of the month; absent without a limit."),
    Metric("requests_at_hand", "gauge", _ACCOUNT, "Requests that may go at once; absent without a limit."),
    Metric("account_closed", "gauge", _ACCOUNT, "1 while nothing is asked because 429 kept coming."),
    Metric("account_refused", "gauge", _ACCOUNT, "1 from a 429 that kept coming until an answer comes."),
    Metric("rows_total", "counter", _STREAM, "New rows read."),
    Metric("events_total", "counter", _STREAM, "Events made of rows."),
    Metric("events_sent_total", "counter", _STREAM, "Events that Segment has confirmed."),
    Metric("rows_held_back_total", "counter", (*_STREAM, "reason"), "Rows held back by a setting."),
    Metric("rows_quarantined_total", "counter", _STREAM, "Rows that could not be used."),
    Metric("quarantined_rows", "gauge", _CONNECTION, "Rows in quarantine now; kept for 30 days."),
    Metric("newest_row_timestamp_seconds", "gauge", _STREAM, "The date of the newest row."),
    Metric("newest_row_delay_seconds", "gauge", _STREAM, "How old the newest row was when it was read."),
    Metric(
        "complete_through_timestamp_seconds",
        "gauge",
        _STREAM,
        "Until when all rows that Beamer showed were read.",
    ),
    Metric("counters_distrusted", "gauge", _STREAM, "1 while the stream's counters are not trusted."),
    Metric("stream_in_trouble", "gauge", _STREAM, "1 while the stream cannot be read; `status` says why."),
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
    Metric("schedule_due_timestamp_seconds", "gauge", _CONNECTION, "When it is next synced.", _DAEMON),
    Metric("schedule_running", "gauge", (), "Runs under way.", _DAEMON),
    Metric("schedule_heartbeat_seconds", "gauge", (), "How long ago the loop was last alive.", _DAEMON),
)

BY_NAME = {metric.name: metric for metric in METRICS}

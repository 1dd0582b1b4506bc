"""The history of one day (UTC): whether its rows were read, and what the runs of that day did."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.clock import plain
from connector.reporting.health import utc_text
from connector.reporting.rendering import OUTCOMES, excluded_text, listed
from connector.reporting.row_history import RowHistory
from connector.reporting.status import DAY, Status, StreamStatus
from connector.state import runs
from connector.state.engine import Database
from connector.state.runs import KEPT, RunSummary
from connector.text import counted

# How many reasons of runs that ended early are shown.
MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class DayRuns:
    """What the runs that began on a day did: how they ended, sums by name, and why some ended early.

    `reasons`: each once, with the meaning of the outcome, such as "stopped early".
    """

    outcomes: Mapping[str, int]
    sent: int
    sums: Mapping[str, Mapping[str, int]]
    reasons: Mapping[str, str]

    @classmethod
    def of(cls, began: Sequence[RunSummary]) -> "DayRuns":
        names = ("rows_new", "excluded", "quarantined", "requests")
        sums = {name: Counter[str]() for name in names}
        for run in began:
            for name in names:
                sums[name].update(run.did.get(name, {}))
        reasons = {run.did.get("error") or run.did.get("stopped"): ended(run.outcome) for run in began}
        return cls(
            Counter(run.outcome or "not ended" for run in began),
            sum(run.did.get("sent", 0) for run in began),
            sums,
            {why: how for why, how in reasons.items() if why},
        )


def ended(outcome: str | None) -> str:
    """Return how a run ended, in the words of `status`."""
    return OUTCOMES[outcome][1] if outcome in OUTCOMES else outcome or "not ended"


def day_histories(database: Database | None, statuses: Sequence[Status], day: datetime) -> list[RowHistory]:
    """Return the history of the day that begins at `day`, of each connection."""
    return [_of_day(database, status, day) for status in statuses]


def _of_day(database: Database | None, status: Status, day: datetime) -> RowHistory:
    title = f"{day:%Y-%m-%d} (UTC), connection '{status.name}'"
    data: dict[str, Any] = {"connection": status.name, "day": f"{day:%Y-%m-%d}"}
    if database is None or status.identity is None:
        return RowHistory((title, "no sync has run yet"), data)
    since = runs.runs_since(database, status.name, day)
    done = DayRuns.of([run for run in since if run.started_at < day + DAY])
    data |= {
        "start_date": plain(status.identity.start_date),
        "streams": [
            {
                "stream": stream.name,
                "complete": _whole(stream, day),
                "complete_through": plain(stream.complete_through),
            }
            for stream in status.streams
        ],
        "runs": dict(done.outcomes),
        "sent": done.sent,
        **{name: dict(counts) for name, counts in done.sums.items()},
        "reasons": [*done.reasons],
    }
    return RowHistory(
        (title, *_read(status, status.identity.start_date, day), *_runs(status, done, day)), data
    )


def _whole(stream: StreamStatus, day: datetime) -> bool:
    return stream.complete_through is not None and stream.complete_through >= day + DAY


def _read(status: Status, start: datetime, day: datetime) -> Iterator[str]:
    """Say whether the day's rows are sent by syncs, and which streams were read."""
    if day > status.now:
        yield "this day is in the future"
        return
    if day < start:
        which = "rows" if day + DAY <= start else "some rows"
        yield (
            f"{which} of this day are older than the start date ({utc_text(start)}): no sync sends them, "
            f"`beamer-segment backfill --since {day:%Y-%m-%d}` does"
        )
    if day + DAY <= start:
        return
    if status.now < day + DAY:
        yield "this day is not over"
    names: dict[str, list[str]] = {}
    for stream in status.streams:
        through = stream.complete_through
        up_to = f"complete up to {utc_text(through)}" if through else "not yet complete"
        names.setdefault("complete" if _whole(stream, day) else up_to, []).append(stream.name)
    yield from (f"{how_far}: {', '.join(streams)}" for how_far, streams in names.items())


def _runs(status: Status, done: DayRuns, day: datetime) -> Iterator[str]:
    """Say how the runs that began on the day ended, and what they did."""
    if not done.outcomes:
        deleted = "" if status.now - day < KEPT else "; runs are kept for 30 days"
        yield f"no run began on this day{deleted}"
        return
    sums = {name: sum(counts.values()) for name, counts in done.sums.items()}
    how = {ended(outcome): runs for outcome, runs in done.outcomes.items()}
    yield (
        f"runs on this day: {listed(how)}; {counted(sums['rows_new'], 'new row')}, {done.sent:,} "
        f"sent, {counted(sums['requests'], 'request')}"
    )
    if sums["rows_new"]:
        yield f"new: {listed(done.sums['rows_new'])}"
    yield from (excluded_text(why, rows) for why, rows in done.sums["excluded"].items())
    if sums["quarantined"]:
        yield f"in quarantine: {listed(done.sums['quarantined'])}"
    yield from (f"{how}: {why}" for why, how in [*done.reasons.items()][:MOST_REASONS])

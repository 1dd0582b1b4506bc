"""Compare what Segment counts with what it confirmed: by event and hour."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.domain.period import SECOND

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Counts of a closed hour may still rise for this time.
SETTLES = timedelta(hours=2)

# An event's name, and the start of an hour.
Key = tuple[str, datetime]


@dataclass(frozen=True, slots=True)
class Sent:
    """Confirmed messages; `oldest` and `newest` are the dates of their rows.

    `unsure`: how many of them had been sent before without an answer, and may have been counted then.
    `resent`: how many were sent again on purpose; Segment may have them, and not count them twice.
    """

    messages: int = 0
    unsure: int = 0
    resent: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def plus(self, other: "Sent") -> "Sent":
        """Return both together."""
        return Sent(
            self.messages + other.messages,
            self.unsure + other.unsure,
            self.resent + other.resent,
            _first(self.oldest, other.oldest),
            _last(self.newest, other.newest),
        )


def _first(*moments: datetime | None) -> datetime | None:
    return min(filter(None, moments), default=None)


def _last(*moments: datetime | None) -> datetime | None:
    return max(filter(None, moments), default=None)


@dataclass(frozen=True, slots=True)
class Counts:
    """Segment's counts: received, filtered at the source, failed on ingest."""

    received: int = 0
    filtered: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.received + self.filtered + self.failed


@dataclass(frozen=True, slots=True)
class EventHour:
    """One event in one closed hour: what was sent, what Segment counts, and the difference.

    `settled`: the counts will not rise any more. `more` than sent: another sender uses the source.
    """

    event: str
    hour: datetime
    sent: Sent
    counts: Counts
    missing: int
    more: int
    settled: bool

    @property
    def lost(self) -> int:
        """Return how many messages are missing for good."""
        return self.missing if self.settled else 0

    @property
    def discarded(self) -> int:
        """Return how many Segment received and did not keep."""
        return min(self.sent.messages, self.counts.filtered + self.counts.failed)


def compare(sent: Mapping[Key, Sent], counts: Mapping[Key, Counts], now: datetime) -> list[EventHour]:
    """Return every event and closed hour with its difference, the oldest hour first."""
    closed = {key for key in (*sent, *counts) if key[1] + HOUR <= now}
    newest = max((hour for (_, hour), count in counts.items() if count.total), default=None)
    rows = []
    for event in sorted({event for event, _ in closed}):
        hours = sorted(hour for name, hour in closed if name == event)
        ours = {hour: sent.get((event, hour), Sent()) for hour in hours}
        theirs = {hour: counts.get((event, hour), Counts()) for hour in hours}
        missing, more = _differences(ours, {hour: count.total for hour, count in theirs.items()})
        rows += [
            EventHour(event, h, ours[h], theirs[h], missing[h], more[h], _settled(h, newest, now))
            for h in hours
        ]
    return sorted(rows, key=lambda row: (row.hour, row.event))


def _settled(hour: datetime, newest: datetime | None, now: datetime) -> bool:
    """Return whether an hour's counts are complete; after the `newest` count, all may be late for a day."""
    age = now - hour - HOUR
    return age >= DAY or (age >= SETTLES and newest is not None and hour < newest)


def _differences(
    sent: Mapping[datetime, Sent], counted: Mapping[datetime, int]
) -> tuple[dict[datetime, int], dict[datetime, int]]:
    """Return by hour how many messages are missing, and how many more there are than were sent."""
    expected = {hour: total.messages - total.resent for hour, total in sent.items()}
    missing = {hour: max(0, expected[hour] - counted[hour]) for hour in sent}
    more = {hour: max(0, counted[hour] - expected[hour]) for hour in sent}

    def cover(hour: datetime, by: datetime, most: int) -> int:
        count = min(missing.get(hour, 0), more.get(by, 0), most)
        if count:
            missing[hour] -= count
            more[by] -= count
        return count

    for hour in sorted(missing):
        # A message sent before without an answer was counted then, if it had arrived.
        unsure = sent[hour].unsure
        for by in sorted((other for other in more if other < hour), reverse=True):
            unsure -= cover(hour, by, unsure)
    for hour in sorted(missing):
        # Messages sent at the end of an hour may be counted in the next, or reversed: the clocks differ.
        for by in (hour - HOUR, hour + HOUR):
            cover(hour, by, missing[hour])
    resent = {hour: total.resent for hour, total in sent.items()}
    for hour in sorted(missing):
        # Missing messages may have been sent again on purpose, and counted then.
        for by in sorted(resent):
            resent[by] -= cover(hour, by, resent[by])
    return missing, {hour: max(0, count - resent[hour]) for hour, count in more.items()}


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages of one event that are missing for good, and the first and last date of their possible rows."""

    event: str
    messages: int
    hours: int
    since: datetime
    oldest: datetime
    newest: datetime


def lost(rows: Iterable[EventHour]) -> list[Lost]:
    """Return the messages that are missing for good, by event."""
    by_event: dict[str, list[EventHour]] = {}
    for row in rows:
        if row.lost:
            by_event.setdefault(row.event, []).append(row)
    return [
        Lost(
            event,
            sum(row.lost for row in hours),
            len(hours),
            min(row.hour for row in hours),
            min(row.sent.oldest or row.hour for row in hours),
            max(row.sent.newest or row.hour + HOUR for row in hours),
        )
        for event, hours in sorted(by_event.items())
    ]


def resend_command(connection: str, stream: str, missing: Lost) -> str:
    """Return the command that sends the rows of these dates again."""
    since, until = missing.oldest, missing.newest.replace(microsecond=0) + SECOND
    return (
        f"beamer-segment backfill --connection {connection} --since {since:%Y-%m-%dT%H:%M:%S} "
        f"--until {until:%Y-%m-%dT%H:%M:%S} --stream {stream} --resend --again"
    )

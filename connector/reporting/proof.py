"""Proof of delivery: what Segment's Public API reports about the source, and which messages are missing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.clock import plain
from connector.domain.proof import Counts, EventHour, Key, Lost, compare, lost, resend_command
from connector.errors import ConnectorError
from connector.segment.events import EVENTS
from connector.segment.public_api import OLDEST, NotProven, PublicApi, Source, Volume, chunks
from connector.state import deliveries
from connector.state.connections import CONFIRM, OtherAccount, key_digest
from connector.state.engine import Database
from connector.text import counted

# The counts of this time are compared, unless more is requested.
USUAL = timedelta(days=14)
DISABLED_AFTER = timedelta(days=14)
NAMES = frozenset(event.name for event in EVENTS.values())
# The events that a backfill can send again: those of rows, not of changes.
STREAM_OF = {EVENTS[stream.kind].name: stream.name for stream in CATALOGUE.values()}
OTHER_SOURCE = (
    "Compare SEGMENT_WRITE_KEY with the source's settings in Segment, and SEGMENT_REGION with the region of "
    "the workspace."
)


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Why Segment does not keep what is sent, and what to do."""

    found: str
    todo: str

    def as_dict(self) -> dict[str, str]:
        return {"found": self.found, "todo": self.todo}


@dataclass(frozen=True, slots=True)
class Proof:
    """Segment's report; `complete`: it includes filtered and failed messages."""

    connection: str
    source: Source | None
    problem: SourceProblem | None
    rows: Sequence[EventHour] = ()
    complete: bool = True
    lost: Sequence[Lost] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lost", lost(self.rows))

    @property
    def discarded(self) -> dict[str, int]:
        """Return by event how many messages Segment received and did not keep."""
        counts: Counter[str] = Counter()
        for row in self.rows:
            counts[row.event] += row.discarded
        return dict(+counts)

    @property
    def problems(self) -> list[SourceProblem]:
        """Return all problems, each with what to do."""
        problems = [self.problem] if self.problem else []
        problems += [_lost_problem(self.connection, missing) for missing in self.lost]
        if self.discarded:
            problems.append(_discarded_problem(self.discarded))
        return problems

    def as_dict(self) -> dict[str, Any]:
        """Return what is stored, and printed as JSON, without the hours."""
        return {
            "source": self.source.id if self.source else None,
            "problems": [problem.as_dict() for problem in self.problems],
            "missing": sum(missing.messages for missing in self.lost),
            "discarded": sum(self.discarded.values()),
        }


def _lost_problem(connection: str, loss: Lost) -> SourceProblem:
    stream = STREAM_OF.get(loss.event)
    text = (
        f"Segment has not counted {counted(loss.messages, 'message')} '{loss.event}' that it confirmed, "
        f"in {counted(loss.hours, 'hour')} since {loss.since:%Y-%m-%d %H:%M} UTC."
    )
    if stream is None:
        return SourceProblem(text, "These cannot be sent again: Beamer does not list changes of the past.")
    command = resend_command(connection, stream, loss)
    return SourceProblem(text, f"Send them again; what Segment has is not doubled: `{command}`.")


def _discarded_problem(events: Mapping[str, int]) -> SourceProblem:
    names = ", ".join(f"{name} ({count:,})" for name, count in sorted(events.items()))
    return SourceProblem(
        f"Segment received messages and did not keep them: {names}.",
        "See the source's Delivery Overview and Schema in Segment: a tracking plan, a filter or a blocked "
        "event drops them. `beamer-segment check` names events that the tracking plan blocks.",
    )


def unproven(error: ConnectorError) -> dict[str, Any]:
    """Return what is stored if Segment could not be asked."""
    return {"source": None, "problems": [], "missing": 0, "discarded": 0, "unproven": error.what}


# --- asking ---


def locate(
    api: PublicApi, write_key: str, source_id: str | None
) -> tuple[Source | None, SourceProblem | None]:
    """Return the source of a write key, by its id if that is known, and its problem."""
    if source_id is None:
        source, visible = api.source_of(write_key)
        if source is None and not visible:
            raise NotProven(
                "Segment's Public API shows no write keys to this token.",
                todo="Set SEGMENT_SOURCE_ID to the id of the source, or use a token of a source admin.",
            )
    else:
        source = api.source(source_id)
    if source is None:
        return None, _no_source(source_id) if source_id else _no_source_of_key()
    if source.write_keys and write_key not in source.write_keys:
        return source, _not_its_key(source)
    return source, None if source.enabled else _disabled(source)


def _no_source(source_id: str) -> SourceProblem:
    return SourceProblem(
        f"The Segment workspace of the token has no source '{source_id}'.",
        "Correct SEGMENT_SOURCE_ID, or use a token of the source's workspace.",
    )


def _no_source_of_key() -> SourceProblem:
    return SourceProblem(
        "No source of this Segment workspace has the write key: it is wrong, or of another workspace or "
        "region. Segment answers 200 to such a key and drops the events.",
        OTHER_SOURCE,
    )


def _not_its_key(source: Source) -> SourceProblem:
    return SourceProblem(
        f"The Segment source '{source.name}' does not have the write key: the events are dropped, or go "
        "to another source.",
        OTHER_SOURCE,
    )


def _disabled(source: Source) -> SourceProblem:
    return SourceProblem(
        f"The Segment source '{source.name}' is disabled: Segment answers 200 and drops the events.",
        "Enable it in Segment, and connect an enabled destination: without one, Segment disables a source "
        "after 14 days. `beamer-segment verify` then names what to send again.",
    )


def find_source(
    database: Database, api: PublicApi, write_key: str, source_id: str | None
) -> tuple[Source | None, SourceProblem | None]:
    """Return the source of a write key and its problem; store its id."""
    digest = key_digest(write_key)
    known = source_id or deliveries.source_of(database, digest)
    source, problem = locate(api, write_key, known)
    if known and not source_id and (source is None or problem):
        # The key may have been moved to another source since.
        source, problem = locate(api, write_key, None)
    if source and write_key in source.write_keys:
        deliveries.set_source(database, digest, source.id)
    return source, problem


def is_same_source(database: Database, api: PublicApi, name: str, write_key: str, former: str) -> bool | None:
    """Return whether a connection's new write key has the same source as its former one; None if unknown.

    Raises OtherAccount if it has another source.
    """
    before = deliveries.source_of(database, former)
    source, visible = api.source_of(write_key)
    if source and (source.id == before or former in {key_digest(key) for key in source.write_keys}):
        return True
    if before is None or not visible:
        return None
    where = f"of source '{source.name}'" if source else "of no source in the workspace of the token"
    raise OtherAccount(
        f"The Segment write key of connection '{name}' was changed: it is {where}, and the former one was of "
        f"source '{before}'.",
        means="Nothing was read, sent or written.",
        todo="Give another source another SEGMENT_DESTINATION. Or, to continue under the same name, confirm "
        f"the key (`{CONFIRM}`) and send what the new source does not have: `beamer-segment backfill --since "
        "DATE --resend`. If the key is wrong, correct SEGMENT_WRITE_KEY.",
    )


def prove(
    database: Database,
    api: PublicApi,
    connection: str,
    write_key: str,
    source_id: str | None,
    now: datetime,
    since: datetime | None = None,
) -> Proof:
    """Compare the messages confirmed since a moment with Segment's counts."""
    source, problem = find_source(database, api, write_key, source_id)
    begin = deliveries.start_of_hour(max(since or now - USUAL, now - OLDEST + timedelta(hours=1)))
    keys = deliveries.write_keys_of(database, key_digest(write_key))
    # Segment counts events; `identify` has no event's name.
    sent = {key: total for key, total in deliveries.sent(database, keys, begin).items() if key[0] in NAMES}
    if source is None or not sent:
        return Proof(connection, source, problem)
    received: list[Volume] = []
    filtered: list[Volume] | None = []
    failed: list[Volume] | None = []
    for first, last in chunks(begin, deliveries.start_of_hour(now)):
        received += api.received(source, first, last)
        filtered = _more(filtered, api.discarded("filtered-at-source", source, first, last))
        failed = _more(failed, api.discarded("failed-on-ingest", source, first, last))
    counts = _counts(received, filtered or (), failed or ())
    complete = filtered is not None and failed is not None
    return Proof(connection, source, problem, compare(sent, counts, now), complete)


def _more(volumes: list[Volume] | None, new: list[Volume] | None) -> list[Volume] | None:
    return None if volumes is None or new is None else volumes + new


def _counts(
    received: Sequence[Volume], filtered: Sequence[Volume], failed: Sequence[Volume]
) -> dict[Key, Counts]:
    sums: dict[Key, list[int]] = {}
    for index, volumes in enumerate((received, filtered, failed)):
        for volume in volumes:
            if volume.event in NAMES:
                hour = deliveries.start_of_hour(volume.hour)
                sums.setdefault((volume.event, hour), [0, 0, 0])[index] += volume.count
    return {key: Counts(*counts) for key, counts in sums.items()}


# --- what is said of it ---


def hour_dict(row: EventHour) -> dict[str, Any]:
    """Return one event and hour as JSON."""
    return {
        "event": row.event,
        "hour": plain(row.hour),
        "sent": row.sent.messages,
        "received": row.counts.received,
        "filtered": row.counts.filtered,
        "failed": row.counts.failed,
        "missing": row.missing,
        "more": row.more,
        "settled": row.settled,
    }


def without_destination(destinations: Sequence[tuple[str, bool]], now: datetime) -> SourceProblem | None:
    """Return what is wrong if no destination is enabled."""
    if any(enabled for _, enabled in destinations):
        return None
    what = "only disabled destinations" if destinations else "no destination"
    return SourceProblem(
        f"The Segment source has {what}: nothing receives its events, and Segment disables such a source "
        f"after 14 days, so by {now + DISABLED_AFTER:%Y-%m-%d} at the latest.",
        "Connect an enabled destination or warehouse to the source in Segment.",
    )


def summary(proof: Proof) -> Iterator[str]:
    """Yield the result of the comparison, for people."""
    rows = proof.rows
    if proof.source:
        yield f"{proof.connection}: source '{proof.source.name}' ({proof.source.id})"
    if not rows:
        yield "  Nothing was sent in a closed hour: there is nothing to compare yet."
        return
    open_rows = sum(row.missing for row in rows if not row.settled)
    sent, received = sum(row.sent.messages for row in rows), sum(row.counts.received for row in rows)
    yield f"  sent: {counted(sent, 'message')}, received: {received:,}"
    if open_rows:
        yield f"  not counted yet: {counted(open_rows, 'message')}; the counts of Segment may lag for a day"
    if more := sum(row.more for row in rows):
        yield f"  more than sent: {counted(more, 'message')}; another sender uses the source, too"
    if not proof.complete:
        yield "  filtered and failed: unknown, the token or plan does not show the Delivery Overview"

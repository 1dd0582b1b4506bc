"""The history of one row: its verdict, its messages, and why; what the database holds of a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.domain.period import EPOCH
from connector.domain.state import Verdict
from connector.reporting.health import WHY_EXCLUDED
from connector.segment.events import EVENTS
from connector.segment.shaping import PREFIX, Fact, Naming, message_id, user_id
from connector.state import outbox, privacy, progress, runs
from connector.state.connections import known
from connector.state.engine import Database
from connector.state.outbox import DEAD, FLIGHT
from connector.state.privacy import Traces
from connector.state.progress import Quarantined, SeenRow
from connector.sync.rows.judging import user_of_raw
from connector.text import counted

KINDS = {stream.kind: stream.name for stream in CATALOGUE.values()}
PLAIN_PARTS = 6
DELIVERED = (
    "Of a user's delivered messages nothing is kept: find one in Segment by its userId, and explain its "
    "messageId."
)


@dataclass(frozen=True, slots=True)
class Query:
    """A row's id; of a readable messageId also the row's stream and parent."""

    row: str
    stream: str | None = None
    parent: str | None = None
    message_id: str | None = None

    @classmethod
    def parse(cls, word: str) -> "Query":
        """Parse a row's id or a messageId; a messageId that is a digest identifies no row."""
        parts = word.split("-")
        if parts[0] != PREFIX or len(parts) < PLAIN_PARTS or parts[3] not in KINDS:
            return cls(word, message_id=word if parts[0] == PREFIX else None)
        return cls(parts[5], KINDS[parts[3]], parts[4], word)


@dataclass(frozen=True, slots=True)
class RowHistory:
    """One row's history, as sentences and as data."""

    sentences: tuple[str, ...]
    data: Mapping[str, Any]


def row_histories(database: Database, connection: str | None, word: str) -> list[RowHistory]:
    """Return the history of every row that the word may mean."""
    query = Query.parse(word)
    rows = progress.sightings(database, connection, query.row, stream=query.stream, parent=query.parent)
    histories = [_of_row(database, row) for row in rows]
    known_rows = {(row.connection, row.stream, row.parent) for row in rows}
    for row in progress.quarantined_rows(database, connection, query.row):
        if (row.connection, row.stream, row.parent) not in known_rows:
            histories.append(_of_quarantined(row))
    if not histories and query.message_id and (message := outbox.message(database, query.message_id)):
        histories.append(_of_message(message))
    return histories


def user_histories(database: Database, connection: str | None, word: str) -> list[RowHistory]:
    """Return what each connection still holds of a user: nothing after delivery."""
    user = user_id(word)
    if user is None:
        return []
    names = [connection] if connection else privacy.names(database)
    held = {
        name: privacy.traces(database, name, user, lambda raw: user_of_raw(raw) == user) for name in names
    }
    return [_of_user(name, user, traces) for name, traces in held.items() if traces]


def _of_user(connection: str, user: str, traces: Traces) -> RowHistory:
    lines = [f"user {user}, connection '{connection}'"]
    for what, events in (("waiting for Segment", traces.waiting), ("refused by Segment", traces.refused)):
        if events:
            lines.append(f"{what}: {', '.join(f'{event} {n:,}' for event, n in sorted(events.items()))}")
    if traces.quarantined:
        lines.append(f"in quarantine: {counted(traces.quarantined, 'row')}")
    if traces.forgotten:
        lines.append("forgotten: no row of this user is sent (forget --user-id)")
    if traces.identified:
        lines.append("identify was sent: a digest of the user id and one of the traits are kept")
    data = {
        "connection": connection,
        "waiting": dict(traces.waiting),
        "refused": dict(traces.refused),
        "quarantined": traces.quarantined,
        "forgotten": traces.forgotten,
        "identified": traces.identified,
    }
    return RowHistory((*lines, DELIVERED), data)


def _row_data(row: SeenRow | Quarantined, verdict: Verdict) -> dict[str, Any]:
    return {
        "connection": row.connection,
        "stream": row.stream,
        "parent": None if row.parent == "0" else row.parent,
        "row": row.id,
        "verdict": verdict.label,
    }


def _title(row: SeenRow | Quarantined) -> str:
    of_parent = "" if row.parent == "0" else f" of {row.parent}"
    return f"{row.stream} {row.id}{of_parent}, connection '{row.connection}'"


def _of_row(database: Database, seen: SeenRow) -> RowHistory:
    run = runs.run(database, seen.run)
    name, ident = _event(database, seen)
    when = f"{run['command']} of {_when(run['started_at'])}" if run else "long ago"
    data = {
        **_row_data(seen, seen.verdict),
        "first_seen_in_run": seen.run,
        "first_seen_at": run["started_at"].isoformat() if run else None,
        "event": name,
        "message_id": ident,
    }
    lines, more = _why_not(database, seen), {"delivery": None}
    if seen.verdict is Verdict.EVENT:
        lines, more = _delivery(database, seen, name, ident)
    return RowHistory((_title(seen), f"first seen by run {seen.run}, {when}", *lines), {**data, **more})


def _event(database: Database, seen: SeenRow) -> tuple[str | None, str | None]:
    identity, stream = known(database, seen.connection), CATALOGUE.get(seen.stream)
    if identity is None or stream is None or seen.verdict is not Verdict.EVENT:
        return None, None
    naming = Naming(identity.destination, identity.account, identity.name)
    fact = Fact(stream.kind, seen.id, seen.parent, EPOCH, {})
    return EVENTS[stream.kind].name, message_id(naming, fact)


def _delivery(
    database: Database, seen: SeenRow, name: str | None, ident: str | None
) -> tuple[list[str], dict[str, Any]]:
    sentences = [f"verdict: send as event '{name}', messageId {ident}"]
    message = outbox.message(database, ident) if ident else None
    if message:
        lines, state = _waiting(message)
        return [*sentences, *lines], {"delivery": state}
    by = runs.emptied(database, seen.connection, seen.run)
    when = f", at the latest by run {by['run']} ({_when(by['finished_at'])})" if by else ""
    sentences.append(f"delivered: Segment has confirmed it{when}")
    # A message that has left the outbox leaves no trace.
    sentences.append("unless it was deleted with `outbox drop`, or refused more than 30 days ago")
    at = by["finished_at"].isoformat() if by else None
    return sentences, {"delivery": "confirmed", "delivered_by": at}


def _waiting(message: Mapping[str, Any]) -> tuple[list[str], str]:
    if message["state"] == DEAD:
        return [
            f"refused by Segment on {_when(message['answered_at'])}: {message['answer']}",
            f"to try again: beamer-segment outbox retry {message['id']}",
        ], "refused"
    since = f"waiting for Segment since {_when(message['made_at'])}"
    if message["state"] == FLIGHT:
        return [f"{since}; being sent now, or left by a run that was killed: it is sent again"], "waiting"
    tried = f", tried {counted(message['tries'], 'time')}" if message["tries"] else ""
    return [f"{since}{tried}; the next sync delivers it"], "waiting"


def _why_not(database: Database, seen: SeenRow) -> list[str]:
    if seen.verdict is Verdict.EVENT:
        return []
    if seen.verdict is Verdict.QUARANTINED:
        rows = progress.quarantined_rows(database, seen.connection, seen.id)
        reasons = {row.reason for row in rows} or {"the reason was deleted after 30 days"}
        return [f"not sent: in quarantine – {reason}" for reason in sorted(reasons)]
    lines = [f"not sent: excluded: {WHY_EXCLUDED[seen.verdict.label]}"]
    if seen.verdict.excluded:
        lines.append("to send it now, change that setting and run `beamer-segment backfill` over its date")
    return lines


def _of_quarantined(row: Quarantined) -> RowHistory:
    since = f"not sent: in quarantine since {_when(row.seen_at)} – {row.reason}"
    data = _row_data(row, Verdict.QUARANTINED)
    return RowHistory(
        (_title(row), since), {**data, "first_seen_at": row.seen_at.isoformat(), "delivery": None}
    )


def _of_message(message: Mapping[str, Any]) -> RowHistory:
    lines, state = _waiting(message)
    sentences = (f"{message['event']}, connection '{message['connection']}'", *lines)
    data = {
        "connection": message["connection"],
        "stream": message["stream"],
        "event": message["event"],
        "message_id": message["message_id"],
        "delivery": state,
    }
    return RowHistory(sentences, data)


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"


def never_seen(word: str) -> tuple[str, ...]:
    """Return the text for a row that no sync has seen."""
    return (
        f"no sync has seen a row with the id {word}, and no message of a user with this id is held",
        "It may be older than the start date (`backfill` sends it), too new (an NPS response without "
        "text waits 15 minutes, a scheduled post until its day), in a list that was not read yet "
        "(`status`), or not visible to the key.",
        DELIVERED,
    )

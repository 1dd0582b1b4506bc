"""The history of one row: seen, judged, sent, refused or excluded, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.domain.period import EPOCH
from connector.domain.verdicts import Verdict
from connector.reporting.summary import WHY_HELD
from connector.segment.events import EVENTS
from connector.segment.shaping import PREFIX, Fact, Naming, message_id
from connector.state import queries
from connector.state.connections import known
from connector.state.engine import Database
from connector.state.outbox import DEAD, FLIGHT
from connector.state.queries import Quarantined, SeenRow

KINDS = {stream.kind: stream.name for stream in CATALOGUE.values()}
PLAIN_PARTS = 6


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was query for; of a messageId in words, also where its row belongs."""

    row: str
    stream: str | None = None
    parent: str | None = None
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class RowHistory:
    """One row's story, as sentences and as data."""

    sentences: tuple[str, ...]
    data: Mapping[str, Any]


def wanted(word: str) -> Wanted:
    """Parse a row's id or a messageId; a messageId that is a digest names no row."""
    parts = word.split("-")
    if parts[0] != PREFIX or len(parts) < PLAIN_PARTS or parts[3] not in KINDS:
        return Wanted(word, message_id=word if parts[0] == PREFIX else None)
    return Wanted(parts[5], KINDS[parts[3]], parts[4], word)


def row_histories(database: Database, connection: str | None, word: str) -> list[RowHistory]:
    """Return the history of every row that the word may mean."""
    query = wanted(word)
    seen = queries.sightings(database, connection, query.row, stream=query.stream, parent=query.parent)
    found = [_of_row(database, each) for each in seen]
    known_already = {(each.connection, each.stream, each.parent) for each in seen}
    for each in queries.quarantined_rows(database, connection, query.row):
        if (each.connection, each.stream, each.parent) not in known_already:
            found.append(_of_quarantined(each))
    if not found and query.message_id and (message := queries.message(database, query.message_id)):
        found.append(_of_message(message))
    return found


def _of_row(database: Database, seen: SeenRow) -> RowHistory:
    run = queries.run(database, seen.run)
    name, ident = _event(database, seen)
    sentences = [f"{seen.stream} {seen.id}{_under(seen.parent)}, connection '{seen.connection}'"]
    first = f"first seen by run {seen.run}"
    sentences.append(
        f"{first}, {run['command']} of {_when(run['started_at'])}" if run else f"{first}, long ago"
    )
    data = {
        "connection": seen.connection,
        "stream": seen.stream,
        "parent": None if seen.parent == "0" else seen.parent,
        "row": seen.id,
        "verdict": seen.verdict.label,
        "first_seen_in_run": seen.run,
        "first_seen_at": run["started_at"].isoformat() if run else None,
        "event": name,
        "message_id": ident,
    }
    if seen.verdict is Verdict.EVENT:
        lines, more = _delivery(database, seen, name, ident)
        return RowHistory((*sentences, *lines), {**data, **more})
    return RowHistory((*sentences, *_why_not(database, seen)), {**data, "delivery": None})


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
    message = queries.message(database, ident) if ident else None
    if message:
        lines, state = _waiting(message)
        return [*sentences, *lines], {"delivery": state}
    by = queries.emptied(database, seen.connection, seen.run)
    when = f", at the latest by run {by['run']} ({_when(by['finished_at'])})" if by else ""
    sentences.append(f"delivered: Segment has confirmed it{when}")
    # Of a message that has left the outbox nothing is kept, whichever way it went.
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
    tried = f", tried {message['tries']} times" if message["tries"] else ""
    return [f"{since}{tried}; the next sync delivers it"], "waiting"


def _why_not(database: Database, seen: SeenRow) -> list[str]:
    if seen.verdict is Verdict.QUARANTINED:
        here = queries.quarantined_rows(database, seen.connection, seen.id)
        reasons = {each.reason for each in here} or {"the reason was deleted after 30 days"}
        return [f"not sent: in quarantine – {reason}" for reason in sorted(reasons)]
    said = [f"not sent: excluded – {WHY_HELD[seen.verdict.label]}"]
    if seen.verdict.held:
        said.append("to send it, change that setting and run `beamer-segment backfill` over its date")
    return said


def _of_quarantined(found: Quarantined) -> RowHistory:
    sentences = (
        f"{found.stream} {found.id}{_under(found.parent)}, connection '{found.connection}'",
        f"not sent: in quarantine since {_when(found.seen_at)} – {found.reason}",
    )
    data = {
        "connection": found.connection,
        "stream": found.stream,
        "parent": None if found.parent == "0" else found.parent,
        "row": found.id,
        "verdict": Verdict.QUARANTINED.label,
        "first_seen_at": found.seen_at.isoformat(),
        "delivery": None,
    }
    return RowHistory(sentences, data)


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


def _under(parent: str) -> str:
    return "" if parent == "0" else f" of {parent}"


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"


def never_seen(word: str) -> tuple[str, ...]:
    """Return the text for a row that no sync has seen."""
    return (
        f"no sync has seen a row with the id {word}",
        "It may be older than the start date (`backfill` sends it), too new (an NPS response without "
        "text waits 15 minutes, a scheduled post until its day), in a list that was not read yet "
        "(`status`), or not visible to the key.",
    )

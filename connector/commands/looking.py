"""`status`, `runs` and `outbox`: what is in the store, for people and for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from typer import BadParameter

from connector import compose
from connector.commands.session import Session
from connector.config import Connection
from connector.output import say, table
from connector.service.status import Status, StreamStatus, status
from connector.service.summary import SEGMENTED, WHY_HELD
from connector.state import connections, outbox, runs
from connector.state.engine import Store
from connector.state.ledger import Balance
from connector.sync.unread import FirstReads


def show_status(
    here: Session, store: Store | None, chosen: Sequence[Connection], text: bool
) -> list[dict[str, Any]]:
    """Each connection's status; printed, too, when it is for people."""
    now = here.clock.now()
    found = [_status(store, each, now) for each in chosen]
    if text:
        for each in found:
            _print_status(each)
    return [each.as_dict() for each in found]


def _status(store: Store | None, connection: Connection, now: datetime) -> Status:
    if store is None:
        return Status(connection.name, None, connection.limit_text)
    identity = connections.known(store, connection.name)
    policy = compose.policy(connection, identity) if identity else None
    return status(store, connection.name, compose.limits(connection), connection.limit_text, policy, now)


def _print_status(found: Status) -> None:
    say(f"Connection '{found.name}' – {found.limit_text}")
    if found.identity is None or found.balance is None:
        say("  never run")
        return
    for line in spending_lines(found.balance):
        say(f"  {line}")
    box = found.outbox or {}
    waiting = box.get(outbox.WAITING, 0) + box.get(outbox.FLIGHT, 0)
    say(f"  outbox: {waiting:,} waiting, {box.get(outbox.DEAD, 0):,} refused by Segment")
    for why, count in found.held.items():
        say(f"  held back: {count:,} – {WHY_HELD[why]}")
    if found.identity.ignore_filters is False:
        say(f"  {SEGMENTED}")
    for line in unread_lines(found.unread, found.read_by):
        say(f"  {line}")
    for stream in found.streams:
        if stream.counters_trusted is False:
            say(f"  {stream.name}: counters not trusted: lists are read without them")
    table("", STREAM_COLUMNS, [_stream_cells(stream) for stream in found.streams])
    if found.last_run:
        say(f"  last run: {_when(found.last_run['started_at'])} {found.last_run['outcome'] or 'under way'}")


def spending_lines(balance: Balance) -> Iterator[str]:
    """What was spent, what is left of the month, and what of that is at hand."""
    left = "no limit" if balance.left is None else f"{balance.left:,} left"
    yield f"requests since {balance.since:%Y-%m-%d}: {balance.used:,}, {left}"
    if balance.level is not None and balance.per_day is not None:
        yield f"at hand: {int(balance.level):,} now, {balance.per_day:,.1f} come in a day"
    if balance.closed_until:
        yield f"closed by 429 until {_when(balance.closed_until)} UTC: nothing is asked before that"
    elif balance.refused:
        yield "429 was the last answer: the next sync tries with one request"


def unread_lines(unread: FirstReads | None, by: datetime | None) -> Iterator[str]:
    """What was there at first sight and was not read yet, and when it will have been."""
    if unread and unread.lists:
        lists = ", ".join(f"{name} {count:,}" for name, count in unread.lists.items())
        until = f"by {by:%Y-%m-%d} at the latest" if by else "there is no telling when"
        yield f"not yet read: {sum(unread.lists.values()):,} lists ({lists}); {until}"
    if unread and unread.discovering:
        yield f"not yet known to their far end: {', '.join(unread.discovering)}; more lists may follow"


STREAM_COLUMNS = (
    "stream",
    "complete through",
    "newest row",
    "rows",
    "sent",
    "waits",
    "quarantined",
    "trouble",
)


def _stream_cells(stream: StreamStatus) -> tuple[Any, ...]:
    return (
        stream.name,
        _when(stream.complete_through),
        _when(stream.newest),
        stream.counts.get("rows", 0),
        stream.counts.get("sent", 0),
        stream.lists_waiting,
        sum(stream.quarantined.values()),
        stream.trouble,
    )


def show_runs(store: Store | None, connection: str | None, last: int, text: bool) -> list[Mapping[str, Any]]:
    """The last runs, newest first."""
    found = runs.recent(store, connection, last) if store else []
    if text:
        columns = (
            "run",
            "connection",
            "command",
            "started",
            "outcome",
            "exit",
            "requests",
            "new",
            "sent",
            "why",
        )
        table("", columns, [_run_cells(run) for run in found])
    return [{name: _plain(value) for name, value in run.items()} for run in found]


def _run_cells(run: Mapping[str, Any]) -> tuple[Any, ...]:
    did = run["summary"] or {}
    return (
        run["id"],
        run["connection"],
        run["command"],
        _when(run["started_at"]),
        run["outcome"] or "under way or killed",
        run["exit"],
        did.get("requests_spent"),
        sum(did.get("rows_new", {}).values()),
        did.get("sent"),
        did.get("error") or did.get("stopped"),
    )


def show_outbox(
    store: Store | None, connection: str | None, state: str | None, most: int, text: bool
) -> list[Mapping[str, Any]]:
    """What waits and what was refused, without texts."""
    found = outbox.listed(store, connection, state, most) if store else []
    if text:
        rows = [
            (
                each["id"],
                each["state"],
                each["event"],
                each["message_id"],
                each["size"],
                each["tries"],
                each["answer"],
            )
            for each in found
        ]
        if rows:
            table("", ("number", "state", "event", "messageId", "bytes", "tries", "answer"), rows)
        else:
            say("Nothing waits." if state is None else "Nothing was refused.")
    return [{name: _plain(value) for name, value in each.items()} for each in found]


def show_message(store: Store | None, which: str) -> None:
    """One message exactly as it is sent."""
    found = outbox.shown(store, which) if store else None
    if found is None:
        raise BadParameter(f"There is no message {which!r} in the outbox; it may have been sent.")
    say(json.dumps(json.loads(found["message"]), indent=2, ensure_ascii=False))
    if found["answer"]:
        say(f"refused {_when(found['answered_at'])}: {found['answer']}")


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value

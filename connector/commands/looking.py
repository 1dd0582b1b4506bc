"""`status`, `runs` and `outbox`: what is in the store, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from typer import BadParameter

from connector import compose
from connector.commands.session import Session
from connector.config import Connection
from connector.output import say, table
from connector.service.status import Status, StreamStatus, status
from connector.service.summary import SEGMENTED, WHY_HELD
from connector.state import outbox, runs
from connector.state.engine import Store


def show_status(
    here: Session, store: Store | None, chosen: Sequence[Connection], text: bool
) -> list[dict[str, Any]]:
    """Each connection's status; printed, too, when it is for people."""
    now = here.clock.now()
    found = [
        status(store, each.name, compose.limits(each), each.limit_text, now)
        if store
        else Status(each.name, None, each.limit_text)
        for each in chosen
    ]
    if text:
        for each in found:
            _print_status(each)
    return [each.as_dict() for each in found]


def _print_status(found: Status) -> None:
    say(f"Connection '{found.name}' – {found.limit_text}")
    if found.identity is None or found.balance is None:
        say("  never run")
        return
    left = "no limit" if found.balance.left is None else f"{found.balance.left:,} left"
    closed = found.balance.closed_until
    say(
        f"  requests since {found.balance.since:%Y-%m-%d}: {found.balance.used:,}, {left}"
        + (f"; closed by 429 until {_when(closed)}" if closed else "")
    )
    box = found.outbox or {}
    waiting = box.get(outbox.WAITING, 0) + box.get(outbox.FLIGHT, 0)
    say(f"  outbox: {waiting:,} waiting, {box.get(outbox.DEAD, 0):,} refused by Segment")
    for why, count in found.held.items():
        say(f"  held back: {count:,} – {WHY_HELD[why]}")
    if found.identity.ignore_filters is False:
        say(f"  {SEGMENTED}")
    table("", STREAM_COLUMNS, [_stream_cells(stream) for stream in found.streams])
    if found.last_run:
        say(f"  last run: {_when(found.last_run['started_at'])} {found.last_run['outcome'] or 'under way'}")


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

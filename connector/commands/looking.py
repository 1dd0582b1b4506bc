"""`status`, `runs` and `outbox`: what is in the store, for people and for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from typer import BadParameter

from connector import compose
from connector.clock import plain
from connector.commands.session import Session
from connector.config import Connection
from connector.output import say, table
from connector.service.drawing import KILLED, UNDER_WAY, work_of
from connector.service.screen import Screen, lines
from connector.service.status import Status, status
from connector.service.status_dict import as_dict
from connector.state import connections, glance, outbox, runs
from connector.state.engine import Store
from connector.state.owner import this_process


def show_status(
    here: Session, store: Store | None, chosen: Sequence[Connection], text: bool
) -> list[dict[str, Any]]:
    """Each connection's status; printed, too, when it is for people."""
    now = here.clock.now()
    found = [status_of(store, each, now) for each in chosen]
    if text:
        shown = screen_here()
        for place, each in enumerate(found):
            for line in [""] * bool(place) + lines(each, shown):
                say(line)
    return [as_dict(each) for each in found]


def status_of(store: Store | None, connection: Connection, now: datetime) -> Status:
    """Where a connection stands by its store."""
    if store is None:
        return Status(connection.name, None, connection.limit_text, now=now)
    identity = connections.known(store, connection.name)
    policy = compose.policy(connection, identity) if identity else None
    return status(store, connection.name, compose.limits(connection), connection.limit_text, policy, now)


def screen_here() -> Screen:
    """What standard output can show, by the rules of the terminal library: NO_COLOR, COLUMNS, TERM."""
    if not sys.stdout.isatty():
        return Screen()
    from rich.console import Console

    console = Console()
    fine = not console.options.ascii_only and not console.is_dumb_terminal
    colour = console.color_system is not None and not console.no_color
    return Screen(console.width, fine=fine, colour=colour)


def show_runs(
    here: Session, store: Store | None, connection: str | None, last: int, text: bool
) -> list[Mapping[str, Any]]:
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
        unended = _unended(store, found, here.clock.now()) if store else {}
        table("", columns, [_run_cells(run, unended) for run in found])
    return [{name: plain(value) for name, value in run.items()} for run in found]


def _unended(store: Store, found: Sequence[Mapping[str, Any]], now: datetime) -> Mapping[int, str]:
    """What became of each run, given newest first, that did not end: only the newest of a work can go on."""
    me, told = this_process(), dict[int, str]()
    at_work = {
        (name, holder.work)
        for name in {run["connection"] for run in found}
        for holder in glance.holders(store, name, me, now)
        if not holder.dead
    }
    for run in found:
        work = run["connection"], work_of(run["command"])
        if run["finished_at"] is None:
            told[run["id"]] = (UNDER_WAY if work in at_work else KILLED)[1]
        at_work.discard(work)
    return told


def _run_cells(run: Mapping[str, Any], unended: Mapping[int, str]) -> tuple[Any, ...]:
    did = run["summary"] or {}
    return (
        run["id"],
        run["connection"],
        run["command"],
        _when(run["started_at"]),
        run["outcome"] or unended[run["id"]],
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
    return [{name: plain(value) for name, value in each.items()} for each in found]


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

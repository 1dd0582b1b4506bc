"""`sync`: one incremental run of each connection that was asked for."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

from connector import compose
from connector.beamer.catalogue import CATALOGUE, Stream
from connector.commands.session import Session
from connector.commands.voice import Voice
from connector.config import Connection
from connector.ending import unexpected, worst
from connector.errors import ConfigurationError, ConnectorError, Exit
from connector.output import say, table
from connector.service import summary, suspension
from connector.state import progress, runs, schema
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.ledger import Balance, Ledger
from connector.state.newest import note_newest
from connector.state.period import EPOCH
from connector.state.progress import Progress, StreamState
from connector.sync.planning import candidates
from connector.sync.planning.auditing import AuditEverything
from connector.sync.planning.opening import Rehearsal, agenda_for, at_hand, planner_for, rehearse
from connector.sync.planning.picture import Picture
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.report import Report
from connector.sync.run import Run
from connector.sync.running import Outcome
from connector.sync.sharing import left_to_others

# Of an account that nothing was ever asked of; what is at hand there is reckoned at the first request.
UNTOUCHED = Balance(used=0, left=None, closed_until=None, refused=False, by_purpose={}, since=EPOCH)
# An audit cut short by the budget goes on the next time with what was not read in this time.
READ_LATELY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; `skip_exit` replaces 75, and 0 where nothing could be asked.

    The command is how runs are called: an `audit` reads again what was not read whole within a day.
    """

    streams: tuple[str, ...]
    max_requests: int | None
    deliver: bool
    strict: bool
    skip_exit: int | None
    command: str = "sync"

    @property
    def audit(self) -> bool:
        return self.command == "audit"

    @property
    def doing(self) -> str:
        return "auditing" if self.audit else "syncing"

    def code(self, results: Sequence[Mapping[str, Any]]) -> int:
        """The command's exit code: that of the worst connection, or what stands for 'nothing was to do'."""
        code = worst(result["exit"] for result in results)
        if self.skip_exit is None:
            return code
        idle = bool(results) and self.max_requests != 0 and all(result["idle"] for result in results)
        return self.skip_exit if code == Exit.BUSY or (code == Exit.DONE and idle) else code


def narrowed(connection: Connection, streams: Sequence[str]) -> dict[str, Stream]:
    """The catalogue with fewer streams for this once, and those that they are children of.

    It is not the policy that is narrowed, or the rows of the others would count as held back for good.
    """
    strangers = [name for name in streams if name not in connection.streams]
    if strangers:
        raise ConfigurationError(
            f"Connection '{connection.name}' has no stream {strangers[0]!r}.",
            todo=f"Its streams are: {', '.join(connection.streams)}.",
        )
    asked = {*streams, *(CATALOGUE[name].parent for name in streams)} if streams else {*CATALOGUE}
    return {name: stream for name, stream in CATALOGUE.items() if name in asked}


def syncs(
    here: Session,
    store: Store,
    chosen: Sequence[Connection],
    wishes: Wishes,
    told: Callable[[str], None],
    *,
    text: bool,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Run each connection, so many side by side; one that fails leaves the others alone."""

    def work(connection: Connection) -> dict[str, Any] | None:
        if here.clock.stopped:
            return None
        return attempted(here, store, connection, wishes, told, Voice(text, len(chosen) > 1))

    if len(chosen) == 1 or workers == 1:
        found = [work(connection) for connection in chosen]
    else:
        with ThreadPoolExecutor(min(workers, len(chosen) or 1), "connection") as pool:
            found = list(pool.map(work, chosen))
    return [each for each in found if each]


def attempted(
    here: Session,
    store: Store,
    connection: Connection,
    wishes: Wishes,
    told: Callable[[str], None],
    voice: Voice,
) -> dict[str, Any]:
    """One connection's run, however it ends."""
    name = connection.name
    try:
        return _sync(here, store, connection, wishes, told, voice)
    except ConnectorError as error:
        voice.explain(error, name)
        return _failed(name, error.exit, error.as_dict())
    except Exception as error:
        voice.explain_unexpected(error, name)
        return _failed(name, Exit.UNEXPECTED, unexpected(error))


def _sync(
    here: Session,
    store: Store,
    connection: Connection,
    wishes: Wishes,
    told: Callable[[str], None],
    voice: Voice,
) -> dict[str, Any]:
    catalogue, keys = narrowed(connection, wishes.streams), compose.keys_in_use(connection)
    suspension.refuse_suspended(store, connection.name, keys)
    _, settled = compose.looked_up(store, connection, here.clock.now())
    with compose.working(here.settings, connection, store, here.clock, catalogue) as parts:
        if wishes.audit:
            parts = replace(parts, planner=AuditEverything(here.clock.now() - READ_LATELY))
        notices = start_date_lines(connection, parts.identity, first=not settled)
        voice.say(notices)
        run = Run(
            parts,
            command=wishes.command,
            deliver=wishes.deliver,
            most_requests=wishes.max_requests,
            on_progress=lambda report: _page_read(report, told),
        )
        try:
            outcome = run.go()
        finally:
            unbind_contextvars("requests")
        balance = parts.ledger.balance(here.clock.now())
    suspension.note(store, connection.name, keys, outcome.error, here.clock.now())
    note_newest(store, connection.name, sorted(outcome.report.new), here.clock.now())
    lines = summary.lines(connection.name, outcome, balance, connection.limit_text)
    error = outcome.error and compose.of_connection(outcome.error, connection)
    voice.say(lines, connection.name, error)
    result = summary.as_dict(connection.name, outcome, balance, connection.limit_text)
    start = parts.identity.start_date.isoformat()
    return {
        **result,
        "exit": exit_code(outcome, wishes),
        "idle": outcome.report.asked == 0 and bool(outcome.report.stopped),
        "start_date": start,
        "notices": notices,
    }


def _page_read(report: Report, told: Callable[[str], None]) -> None:
    bind_contextvars(requests=report.asked)
    told(_counted(report))


def exit_code(outcome: Outcome, wishes: Wishes) -> int:
    """The run's own code, or what the wishes make of it."""
    if outcome.exit is Exit.DONE and wishes.strict and outcome.report.quarantined:
        return int(Exit.QUARANTINED)
    return int(outcome.exit)


def _failed(name: str, code: int, error: Mapping[str, str]) -> dict[str, Any]:
    return {"connection": name, "exit": int(code), "idle": False, "error": error}


def start_date_lines(connection: Connection, identity: Identity, *, first: bool) -> list[str]:
    """Say from when on rows are sent: at the first sync, and when the setting no longer changes it."""
    date = f"{identity.start_date:%Y-%m-%d %H:%M:%S} UTC"
    if first:
        return [f"{connection.name}: sending rows dated {date} or later; this date is kept from now on"]
    asked = connection.start_date
    if asked and asked < identity.start_date:
        return [
            f"{connection.name}: BEAMER_START_DATE is earlier than {date}, the date of the first sync; "
            f"what lies before it: beamer-segment backfill --since {asked:%Y-%m-%d}"
        ]
    return []


def _counted(report: Report) -> str:
    return f"{report.asked} requests, {report.new.total()} new rows, {report.sent} sent"


# --- dry run ---------------------------------------------------------------------------------------------


def dry_runs(
    here: Session, chosen: Sequence[Connection], wishes: Wishes, *, text: bool
) -> list[dict[str, Any]]:
    """What a sync would ask, from what the store knows; nobody is asked and nothing is written."""
    store = compose.open_existing(here.settings)
    try:
        if store and (found := schema.version(store)) != schema.HEAD:
            raise ConfigurationError(
                f"The state store is at revision {found}; this version needs {schema.HEAD}.",
                todo="A dry run writes nothing: run `beamer-segment db upgrade` before it.",
            )
        return [_dry_run(here, store, each, wishes, text=text) for each in chosen]
    finally:
        if store:
            store.close()


def _dry_run(
    here: Session, store: Store | None, connection: Connection, wishes: Wishes, *, text: bool
) -> dict[str, Any]:
    catalogue, now = narrowed(connection, wishes.streams), here.clock.now()
    identity, _ = compose.looked_up(store, connection, now)
    policy = compose.policy(connection, identity)
    state = progress.peek(store, connection.name) if store else Progress()
    for name in catalogue:
        state.streams.setdefault(name, StreamState(0, name))
    progress.doubt_future(state, now)
    limits = compose.limits(connection)
    limited = limits.usable is not None
    balance, last, reserved = UNTOUCHED, None, 0.0
    if store:
        balance = Ledger(store, identity.account, connection.name, limits).balance(now)
        last = runs.last(store, connection.name)
        if limited:
            reserved = left_to_others(store, connection.name, identity.account, last, now)
    before = last.started_at if last else None
    hand = 0.0 if balance.refusal else at_hand(balance, wishes.max_requests)
    found = rehearse(
        AuditEverything(now - READ_LATELY) if wishes.audit else planner_for(limited=limited),
        Picture(catalogue, policy, state, identity.first_page, balance.per_day, hand),
        agenda_for(balance, now, before=before, reserved=reserved, most=wishes.max_requests),
        now,
    )
    cost = candidates.cost(found.probes)
    if text:
        _say_rehearsal(connection.name, found, balance)
    return {
        "connection": connection.name,
        "requests_at_least": sum(cost.values()),
        "by_stream": cost,
        "probes": [{"stream": p.stream.name, "parent": _of(p), "reason": p.reason} for p in found.probes],
        "later": found.later,
        "at_hand": None if balance.level is None else int(balance.level),
        "stopped": balance.refusal,
        "limit": connection.limit_text,
    }


def _of(probe: Probe) -> str | None:
    """The post or request whose list it asks for; None where the list is the account's."""
    return None if probe.parent == NO_PARENT else probe.parent


def _say_rehearsal(name: str, found: Rehearsal, balance: Balance) -> None:
    rows = [(probe.stream.name, _of(probe), probe.reason) for probe in found.probes]
    title = f"{name}: {len(rows)} requests at the least"
    if rows:
        table(title, ("stream", "of", "why"), rows)
    else:
        say(title)
    if balance.refusal:
        say(balance.refusal)
    elif found.saving:
        say(f"Saving up: the next look waits for {ceil(found.saving)} more.")
    if balance.level is not None:
        say(f"At hand now: {int(balance.level)} requests; {found.later} probes wait for later ones.")
    if rows:
        say("More follow where counters have moved; a first sync asks every list that is not empty.")

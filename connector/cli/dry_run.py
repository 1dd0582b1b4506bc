"""`--dry-run` of `sync` and `audit`: the requests of the next run, or a sample of its events."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import chain, islice, zip_longest
from math import ceil
from typing import Any

from typer import BadParameter

from connector import compose
from connector.beamer.pagination import Answer, BeamerRequest
from connector.cli.command import Session
from connector.cli.connection_run import READ_LATELY, SyncOptions
from connector.cli.exit_codes import worst
from connector.cli.output import Result, table_lines
from connector.config import Connection
from connector.errors import ConfigurationError, KeyRefused, NoBudget
from connector.reporting import checks
from connector.reporting.rendering import excluded_text
from connector.state import privacy, schema
from connector.state.connections import KeyVerdict
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.sync.dry_run import DryRun, dry_run
from connector.sync.planning import candidates
from connector.sync.planning.probes import NO_PARENT
from connector.sync.sample import SampledPage, sample
from connector.text import Verbatim, counted, one_line

# --- the plan: no request is sent ---------------------------------------------------------------------


def plans(session: Session, chosen: Sequence[Connection], options: SyncOptions) -> Result:
    """Plan a sync from the database; send no request, and write nothing."""
    database = compose.open_existing(session.settings)
    with closing(database) if database else nullcontext():
        if database and (revision := schema.version(database)) != schema.HEAD:
            raise ConfigurationError(
                f"The database is at revision {revision}; this version needs {schema.HEAD}.",
                todo="A dry run changes nothing: run `beamer-segment db upgrade` first.",
            )
        plans = [_plan(session, database, connection, options) for connection in chosen]
    data = [_plan_dict(connection, plan) for connection, plan in zip(chosen, plans, strict=True)]
    lines = chain.from_iterable(
        _plan_lines(connection.name, plan) for connection, plan in zip(chosen, plans, strict=True)
    )
    return Result({"dry_run": True, "connections": data}, lines)


def _plan(
    session: Session, database: Database | None, connection: Connection, options: SyncOptions
) -> DryRun:
    catalogue, now = compose.catalogue(connection, options.streams), session.clock.now()
    compose.refuse_other_account(database, connection)
    identity, _ = compose.stored_or_new_identity(database, connection, now)
    return dry_run(
        database,
        identity,
        compose.policy(connection, identity),
        catalogue,
        compose.limits(connection),
        read_since=now - READ_LATELY if options.command == "audit" else None,
        max_requests=options.max_requests,
        now=now,
    )


def _rows(plan: DryRun) -> list[tuple[str, str | None, str]]:
    """Return each request's stream, the post or request whose list it reads, and the reason."""
    return [
        (probe.stream.name, None if probe.parent == NO_PARENT else probe.parent, probe.reason)
        for probe in plan.plan.probes
    ]


def _plan_dict(connection: Connection, plan: DryRun) -> dict[str, Any]:
    cost, balance = candidates.cost(plan.plan.probes), plan.balance
    return {
        "connection": connection.name,
        "requests_at_least": sum(cost.values()),
        "by_stream": cost,
        "probes": [
            {"stream": stream, "parent": parent, "reason": reason} for stream, parent, reason in _rows(plan)
        ],
        "later": plan.plan.later,
        "available": None if balance.level is None else int(balance.level),
        "stopped": balance.refusal,
        "limit": connection.limit_text,
    }


def _plan_lines(name: str, plan: DryRun) -> Iterator[str]:
    rows, balance, saving = _rows(plan), plan.balance, plan.plan.saving
    title = f"{name}: " + (
        f"at least {counted(len(rows), 'request')}" if rows else "the next run would send no request"
    )
    yield from table_lines(title, ("stream", "of", "why"), rows) if rows else [title]
    if balance.refusal:
        yield balance.refusal
    elif saving:
        yield f"The next check waits for {counted(ceil(saving), 'more request')}."
    if balance.level is not None:
        later = plan.plan.later
        yield f"Available now: {counted(int(balance.level), 'request')}. Planned for later: {later:,} more."
    if rows:
        yield "More follow if counters have changed; a first sync reads every list that is not empty."


# --- a sample: one page of each stream ------------------------------------------------------------------


def samples(
    session: Session,
    chosen: Sequence[Connection],
    options: SyncOptions,
    number: int,
    *,
    dry_run: bool,
    new: bool,
) -> Result:
    """Read one page of each stream, and return so many of the events that a sync would send.

    Each request is charged. Nothing is sent to Segment, and neither rows nor progress are stored.
    """
    if not dry_run:
        raise BadParameter("Give --dry-run, too: a sample is not sent.", param_hint="--sample")
    with session.database(new) as database:
        pages = {connection.name: _sample(session, database, connection, options) for connection in chosen}
    data = [
        {
            "connection": name,
            "streams": [page.as_dict() for page in of],
            "events": [json.loads(text) for text in _events(of, number)],
        }
        for name, of in pages.items()
    ]
    lines = chain.from_iterable(_sample_lines(name, of, number) for name, of in pages.items())
    code = worst(int(page.exit) for of in pages.values() for page in of)
    return Result({"dry_run": True, "connections": data}, lines, code)


def _sample(
    session: Session, database: Database, connection: Connection, options: SyncOptions
) -> list[SampledPage]:
    clock, name = session.clock, connection.name
    change = compose.refuse_other_account(database, connection)
    unproved = change.verdict is KeyVerdict.COMPARE
    checks.refuse_suspended(database, name, compose.keys_in_use(connection), unproved=unproved)
    identity, _ = compose.stored_or_new_identity(database, connection, clock.now())
    policy = replace(compose.policy(connection, identity), forgotten=privacy.load(database, name))
    ledger = Ledger(database, identity.account, name, compose.limits(connection))
    clients, sent = compose.clients(connection, clock), 0

    def get(purpose: str, request: BeamerRequest) -> Answer:
        nonlocal sent
        if options.max_requests is not None and sent >= options.max_requests:
            raise NoBudget(f"The requests of --max-requests {sent} are used.")
        try:
            with ledger.taken(purpose, clock.now()) as at:
                sent += 1
                answer = clients.beamer.get(request, at)
        except KeyRefused as error:
            raise compose.of_connection(error, connection) from None
        ledger.note_beamer_time(answer.date, clock.now())
        return answer

    with closing(clients.beamer):
        return list(
            sample(get, compose.catalogue(connection, options.streams), identity, policy, clock.now())
        )


def _events(pages: Sequence[SampledPage], number: int) -> list[str]:
    """Return so many messages, one of each stream in turn."""
    in_turn = chain.from_iterable(zip_longest(*(page.events for page in pages)))
    return [event.text for event in islice(filter(None, in_turn), number)]


def _sample_lines(name: str, pages: Sequence[SampledPage], number: int) -> Iterator[str]:
    events = _events(pages, number)
    yield f"{name}: a sample of {counted(len(events), 'event')}; nothing is sent to Segment or stored"
    for page in pages:
        of = f"{page.stream} of {page.parent}" if page.parent else page.stream
        if page.error:
            yield one_line(f"  {of}: not read: {page.error}")
            continue
        early = f", {page.early} too old or not ready" if page.early else ""
        bad = f", {page.invalid} for the quarantine" if page.invalid else ""
        yield f"  {of}: {counted(page.rows, 'row')} on the page, {len(page.events)} to send{early}{bad}"
        yield from (f"    {excluded_text(why, rows)}" for why, rows in page.excluded.items())
    yield from (Verbatim(json.dumps(json.loads(text), indent=2, ensure_ascii=False)) for text in events)
    yield "Rows that were sent before are in the sample, too. Its requests count against the quota."

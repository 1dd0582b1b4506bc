"""`sync --dry-run` and `audit --dry-run`: what a run would request."""

from collections.abc import Iterator, Sequence
from itertools import chain
from math import ceil
from typing import Any

from connector import compose
from connector.cli.connection_run import READ_LATELY, SyncOptions, narrowed
from connector.cli.context import Session
from connector.cli.output import Result, table_lines
from connector.config import Connection
from connector.errors import ConfigurationError
from connector.state import schema
from connector.state.engine import Database
from connector.state.ledger import Balance
from connector.sync.dry_run import dry_run
from connector.sync.planning import candidates
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.planning.start import DryPlan


def dry_runs(session: Session, chosen: Sequence[Connection], options: SyncOptions) -> Result:
    """Plan a sync from what the database holds; no request is sent, and nothing is written."""
    database = compose.open_existing(session.settings)
    try:
        if database and (revision := schema.version(database)) != schema.HEAD:
            raise ConfigurationError(
                f"The database is at revision {revision}; this version needs {schema.HEAD}.",
                todo="A dry run changes nothing: run `beamer-segment db upgrade` first.",
            )
        plans = [_dry_run(session, database, connection, options) for connection in chosen]
    finally:
        if database:
            database.close()
    data = {"dry_run": True, "connections": [plan for plan, _ in plans]}
    return Result(data, chain.from_iterable(lines for _, lines in plans))


def _dry_run(
    session: Session, database: Database | None, connection: Connection, options: SyncOptions
) -> tuple[dict[str, Any], Iterator[str]]:
    catalogue, now = narrowed(connection, options.streams), session.clock.now()
    compose.refuse_other_account(database, connection)
    identity, _ = compose.stored_or_new_identity(database, connection, now)
    policy = compose.policy(connection, identity)
    found = dry_run(
        database,
        identity,
        policy,
        catalogue,
        compose.limits(connection),
        read_since=now - READ_LATELY if options.audit else None,
        max_requests=options.max_requests,
        now=now,
    )
    plan, balance = found.plan, found.balance
    cost = candidates.cost(plan.probes)
    data = {
        "connection": connection.name,
        "requests_at_least": sum(cost.values()),
        "by_stream": cost,
        "probes": [{"stream": p.stream.name, "parent": _of(p), "reason": p.reason} for p in plan.probes],
        "later": plan.later,
        "available": None if balance.level is None else int(balance.level),
        "stopped": balance.refusal,
        "limit": connection.limit_text,
    }
    return data, _lines(connection.name, plan, balance)


def _of(probe: Probe) -> str | None:
    """The post or request whose list it asks for; None where the list is the account's."""
    return None if probe.parent == NO_PARENT else probe.parent


def _lines(name: str, plan: DryPlan, balance: Balance) -> Iterator[str]:
    rows = [(probe.stream.name, _of(probe), probe.reason) for probe in plan.probes]
    title = f"{name}: at least {len(rows)} requests"
    if rows:
        yield from table_lines(title, ("stream", "of", "why"), rows)
    else:
        yield title
    if balance.refusal:
        yield balance.refusal
    elif plan.saving:
        yield f"The next check waits until {ceil(plan.saving)} more requests are available."
    if balance.level is not None:
        yield f"Available now: {int(balance.level)} requests. {plan.later} more are planned for later runs."
    if rows:
        yield "More follow if counters have changed; a first sync reads every list that is not empty."

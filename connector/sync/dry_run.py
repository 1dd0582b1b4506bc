"""Plan what a run would request, from the database alone: send no request, and write nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from connector.beamer.streams import Stream
from connector.domain.budget import Balance, Limits
from connector.domain.period import EPOCH
from connector.domain.state import Progress, StreamState
from connector.state import progress, runs
from connector.state.connections import Identity
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.sync.fetch import stored
from connector.sync.planning.audit import AuditEverything
from connector.sync.planning.probes import PlanInputs
from connector.sync.planning.start import DryPlan, available, dry_plan, planner_for, queue_for
from connector.sync.policy import Policy
from connector.sync.run import left_to_others

# The budget of an account without any request so far; the first request opens it.
UNTOUCHED = Balance(used=0, left=None, closed_until=None, refused=False, by_purpose={}, since=EPOCH)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would request, and the budget that it would have."""

    plan: DryPlan
    balance: Balance


def dry_run(
    database: Database | None,
    identity: Identity,
    policy: Policy,
    catalogue: Mapping[str, Stream],
    limits: Limits,
    *,
    read_since: datetime | None,
    max_requests: int | None,
    now: datetime,
) -> DryRun:
    """Plan a run; with `read_since`, an audit of the lists that were not read completely since then."""
    state = progress.load_readonly(database, identity.name) if database else Progress()
    for name in catalogue:
        state.streams.setdefault(name, StreamState(0, name))
    progress.doubt_future(state, now)
    stored.readable(state, policy.start)
    limited = limits.usable is not None
    balance, last, reserved = UNTOUCHED, None, 0.0
    if database:
        balance = Ledger(database, identity.account, identity.name, limits).balance(now)
        last = runs.last(database, identity.name)
        if limited:
            reserved = left_to_others(database, identity.name, identity.account, last, now)
    before = last.started_at if last else None
    requests = 0.0 if balance.refusal else available(balance, max_requests)
    planner = AuditEverything(read_since) if read_since else planner_for(limited=limited)
    plan = dry_plan(
        planner,
        PlanInputs(catalogue, policy, state, identity.first_page, balance.per_day, requests),
        queue_for(
            planner,
            balance,
            now,
            before=before,
            price=last.price if last else None,
            reserved=reserved,
            most=max_requests,
        ),
        now,
    )
    return DryRun(plan, balance)

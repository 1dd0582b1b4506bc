"""How a run starts: with everything, or under a monthly limit with the highest priorities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil, inf

from connector.beamer.streams import Stream
from connector.domain.budget import Balance
from connector.sync.lists import backoff
from connector.sync.planning import candidates, hinted
from connector.sync.planning.audit import BEFORE, audits
from connector.sync.planning.planner import LimitedPlanner, Planner
from connector.sync.planning.probes import PlanInputs, Probe, Tier
from connector.sync.planning.queue import ProbeQueue, price_now


def planner_for(*, limited: bool) -> Planner:
    """Return the planner for a monthly limit, or the one without."""
    return LimitedPlanner() if limited else UnlimitedPlanner()


def available(balance: Balance, most: int | None) -> float | None:
    """Return how many requests a run of at most `most` requests may spend; None without any limit."""
    if most is None or balance.level is None:
        return balance.level if most is None else float(most)
    return min(balance.level, most)


def queue_for(
    planner: Planner,
    balance: Balance,
    started: datetime,
    *,
    before: datetime | None = None,
    price: float | None = None,
    reserved: float = 0.0,
    most: int | None = None,
) -> ProbeQueue:
    """Return the queue of a run that starts with this balance; the last run `before` it started then.

    Only the `LimitedPlanner` compares priorities: a person's own request has no price.
    """
    days = (started - before) / timedelta(days=1) if before else 0.0
    weighs = isinstance(planner, LimitedPlanner)
    return ProbeQueue(
        balance.drawn,
        balance.level,
        per_run=days * (balance.per_day or 0.0),
        reserved=reserved,
        most=most,
        price=price_now(price, balance.level, balance.per_day, days * 24) if weighs else None,
    )


@dataclass(frozen=True, slots=True)
class DryPlan:
    """What a run would request before it has seen a page, and how many probes it would leave for later.

    `saving`: how many requests are missing for the highest priority, if the run would save up for it.
    """

    probes: Sequence[Probe]
    later: int
    saving: float


def dry_plan(planner: Planner, inputs: PlanInputs, queue: ProbeQueue, now: datetime) -> DryPlan:
    """Go through the start of a run without sending a request."""
    for probe in planner.begin(inputs, now):
        queue.add(probe)
    if inputs.available is None:
        # Without a price, a waiting list is read after its parent's page.
        for waiting in candidates.waiting_children(
            inputs.catalogue, inputs.policy, inputs.progress, inputs.first_page, now
        ):
            queue.add(waiting)
    probes: list[Probe] = []
    most = float("inf") if inputs.available is None else inputs.available
    while len(probes) + 1 <= most and (next_one := queue.next(lambda _: False)):
        probes.append(next_one.probe)
    return DryPlan(probes, queue.ready, queue.saving)


# Audits may add this share to the requests of a run.
AUDIT_SHARE = 0.05


class UnlimitedPlanner:
    """Request every block, and every list whose counter has changed: only the rate is limited."""

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        probes = candidates.first_probes(
            inputs.catalogue, inputs.policy, inputs.progress, inputs.first_page, now
        )
        if inputs.available is not None:
            # A run of a few requests continues where the ones before it ended, and reads what they found.
            # they saw.
            probes.sort(key=lambda probe: _checked_at(inputs, probe) or BEFORE)
            probes[:0] = candidates.waiting_children(
                inputs.catalogue, inputs.policy, inputs.progress, inputs.first_page, now
            )
        # A probe that hung would be the only request of its run: all others come before it.
        probes.sort(key=lambda probe: _passed_over(inputs, probe))
        due = audits(inputs, now)
        # A small share of all requests, after everything else; -1 comes after priority 0.
        few = ceil(len(probes) * AUDIT_SHARE)
        return probes + [replace(audit, tier=Tier.PRIORITY, priority=-1.0) for audit in due[:few]]

    def follow(self, inputs: PlanInputs, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = inputs.progress.child(stream.name, parent)
        if child is None:
            return None
        state = inputs.progress.streams[stream.name]
        named = hinted.is_hinted(inputs, stream, parent)
        if not (candidates.due(child, now) or state.distrusted or named):
            return None
        return replace(candidates.list_probe(inputs, stream, child, now, hinted=named), hinted=named)

    def onward(self, inputs: PlanInputs, probe: Probe, now: datetime) -> Probe:  # noqa: ARG002
        return replace(probe, priority=inf)


class HintedPlanner(UnlimitedPlanner):
    """Request what hints name, and nothing else: without a monthly limit, the next sync reads the rest."""

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        roots = candidates.first_probes(
            inputs.catalogue, inputs.policy, inputs.progress, inputs.first_page, now
        )
        return hinted.probes(inputs, roots, now)


def _passed_over(inputs: PlanInputs, probe: Probe) -> bool:
    return backoff.comes_last(inputs.progress, inputs.progress.streams[probe.stream.name])


def _checked_at(inputs: PlanInputs, probe: Probe) -> datetime | None:
    """Return when a probe was last requested; of a block, the earliest check of a parent."""
    if probe.check is None:
        return inputs.progress.streams[probe.stream.name].checked_at
    known = inputs.progress.parents.get(probe.stream.name, {})
    return min((known[name].checked_at or BEFORE for name in probe.check.block.members), default=None)

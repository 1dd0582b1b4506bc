"""The audit: which lists are read again although their counters have not changed."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from math import inf

from connector.beamer.streams import Stream, children
from connector.domain.state import ChildState, ParentState
from connector.sync.lists import backoff, counter_trust, counters
from connector.sync.lists.count_windows import restore, whole_days
from connector.sync.planning import candidates
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.estimates import LearnedRates, Rates
from connector.sync.planning.probes import PlanInputs, Probe, Tier

# A list that was read since needs no audit; and how many lists are considered at a time.
AUDIT_AFTER = timedelta(days=7)
AUDITS = 20
BEFORE = datetime.min.replace(tzinfo=UTC)
# One row in so many is deleted, and hides a new one between the same two checks.
DELETED_SHARE = 0.01


def audits(inputs: PlanInputs, now: datetime, known_rates: Rates | None = None) -> list[Probe]:
    """Return the lists that were read longest ago, though no counter has changed since."""
    due = nsmallest(AUDITS, _due(inputs, now), key=_longest_ago)
    guess = known_rates or (LearnedRates(inputs, now) if due else None)
    probes = _counts(inputs, now)
    for stream, parent, child in due:
        probe = candidates.audit_probe(stream, child, inputs.policy, parent.date)
        priority = 0.0
        if guess and child.read_at:
            # From one check to the next, a deletion may cancel a new row out.
            between = (now - (parent.checked_at or now)) / HOUR
            hidden = DELETED_SHARE * min(1.0, guess.coming(stream, parent, child) * between)
            priority = guess.unseen(stream, parent, child, child.read_at).delay * hidden
        probes.append(replace(probe, tier=Tier.AUDIT, audit=True, priority=priority))
    return probes


def _due(inputs: PlanInputs, now: datetime) -> Iterator[tuple[Stream, ParentState, ChildState]]:
    """Yield lists with rows that were not completely read lately, though no counter has changed."""
    lately = now - AUDIT_AFTER
    for stream in candidates.wanted(inputs.catalogue, inputs.policy):
        parents = inputs.progress.parents.get(stream.parent or "", {})
        if backoff.is_skipped(inputs.progress, stream, now):
            continue
        for child in inputs.progress.children.get(stream.name, {}).values():
            whole = child.whole_at
            if (
                (whole and whole >= lately)
                or not child.read_at
                or child.read_counter != child.counter
                or child.cursor
            ):
                continue
            if counter_trust.missing_rows(child):
                # It is read again because of these rows.
                continue
            parent = parents.get(child.parent)
            if not parent or parent.gone or (whole or parent.known_at or BEFORE) >= lately:
                continue
            if counters.total(child.counter) and not backoff.in_backoff(child, now):
                yield stream, parent, child


def _longest_ago(due: tuple[Stream, ParentState, ChildState]) -> tuple[datetime, str]:
    """Return when a list was last completely read, and its parent; partly read lists come first."""
    _, _, child = due
    return child.whole_at or BEFORE, child.parent


def _counts(inputs: PlanInputs, now: datetime) -> list[Probe]:
    """Return the lists without parents and counters whose counts were not compared lately."""
    probes = []
    for stream in candidates.wanted(inputs.catalogue, inputs.policy):
        if stream.parent is None and not children(inputs.catalogue, stream.name):
            state = inputs.progress.streams[stream.name]
            last = state.audited_at or inputs.policy.start
            if state.windows or now - last >= AUDIT_AFTER:
                probes += _count(inputs, stream, now)
    return [replace(probe, tier=Tier.AUDIT) for probe in probes]


def _count(inputs: PlanInputs, stream: Stream, now: datetime, *, thorough: bool = False) -> list[Probe]:
    """Return the first count of a list's audit, or the remaining ones; none while the list is being read."""
    state, window = inputs.progress.streams[stream.name], whole_days(inputs.policy.start, now)
    if window is None or not state.complete or state.cursor:
        return []
    audit = restore(state.windows, inputs.policy.start)
    if audit.left and (audit.thorough or not thorough):
        return [candidates.left_probe(stream, part, thorough=audit.thorough) for part in audit.left]
    return [replace(candidates.count_probe(stream, window, thorough=thorough), whole=True)]


class AuditEverything:
    """Read each window of parents to its end, each list with rows completely, and count the rest.

    The lists read longest ago come first, so that an interrupted audit continues with the others.
    """

    def __init__(self, since: datetime) -> None:
        self._since = since

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        probes: list[Probe] = []
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            if stream.parent is not None:
                probes += self._lists(inputs, stream, now)
            elif children(inputs.catalogue, stream.name):
                known = candidates.block_probes(stream, inputs.progress, now)
                probes += [_proving(probe) for probe in known if self._due(inputs, probe)]
            else:
                probes += self._counts(inputs, stream, now)
        return probes

    def follow(self, inputs: PlanInputs, stream: Stream, parent: str, now: datetime) -> Probe | None:
        """Read the lists that a block shows to have changed, as in a sync."""
        child = inputs.progress.child(stream.name, parent)
        if child is None or not candidates.due(child, now):
            return None
        return candidates.list_probe(inputs, stream, child, now)

    def onward(self, inputs: PlanInputs, probe: Probe, now: datetime) -> Probe:  # noqa: ARG002
        return replace(probe, priority=inf)

    def _due(self, inputs: PlanInputs, probe: Probe) -> bool:
        known = inputs.progress.parents.get(probe.stream.name, {})
        block = probe.required_check.block
        return not block.members or candidates.doubted(block, known, self._since)

    def _lists(self, inputs: PlanInputs, stream: Stream, now: datetime) -> list[Probe]:
        parents = inputs.progress.parents.get(stream.parent or "", {})
        probes = []
        for child in inputs.progress.children.get(stream.name, {}).values():
            parent = parents.get(child.parent)
            done = child.whole_at is not None and child.whole_at >= self._since
            if parent is None or parent.gone or done or not counters.total(child.counter):
                continue
            # A list that was never read, or only partly, is read completely anyway.
            if child.cursor or child.read_counter is None:
                probe = candidates.list_probe(inputs, stream, child, now)
            else:
                probe = candidates.audit_probe(stream, child, inputs.policy, parent.date)
                # Rows announced by its counter were not missing.
                announced = candidates.has_news(child) or counter_trust.missing_rows(child)
                probe = replace(probe, audit=not announced, thorough=True)
            age = (now - (child.whole_at or parent.date)).total_seconds()
            probes.append(replace(probe, priority=age))
        return probes

    def _counts(self, inputs: PlanInputs, stream: Stream, now: datetime) -> list[Probe]:
        state = inputs.progress.streams[stream.name]
        dated = candidates.dated_probe(stream, state, inputs.policy, inputs.first_page, now)
        done = state.audited_at is not None and state.audited_at >= self._since and not state.windows
        return [dated, *([] if done else _count(inputs, stream, now, thorough=True))]


def _proving(probe: Probe) -> Probe:
    return replace(probe, check=replace(probe.required_check, proving=True), audit=True, priority=inf)

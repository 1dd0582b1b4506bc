"""What to request because of hints, and how much of the budget they may use.

A hint counts as a counter that has risen: its list is read without checking its block first. Hints never
use more than their share of the requests, and rows without a hint are found as without webhooks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from math import floor, inf

from connector.beamer.streams import Stream, children
from connector.domain.hints import ANYWHERE, Hint
from connector.domain.state import ChildState, StreamState
from connector.sync.lists import backoff
from connector.sync.planning import candidates
from connector.sync.planning.probes import PlanInputs, Probe, Tier
from connector.sync.planning.queue import ANNOUNCED

# The share of usually announced rows that is taken to be announced: a few are still searched for.
BELIEVED = 0.9


def requests_for_hints(share: float, on_hints: int, spent: int, available: float) -> int:
    """Return how many requests hints may use: a share of what was released, so is spent or available."""
    return max(0, floor(share * (spent + available) - on_hints))


def unannounced(state: StreamState) -> float:
    """Return the share of a stream's rows that come without a hint."""
    return 1 - BELIEVED * state.hint_share


def is_hinted(inputs: PlanInputs, stream: Stream, parent: str = ANYWHERE) -> bool:
    return parent in inputs.hints.get(stream.name, ())


def probes(inputs: PlanInputs, blocks: Iterable[Probe], now: datetime) -> list[Probe]:
    """Return the lists that hints name, the first announced first, as many as hints may read.

    `blocks` are the probes of lists without parents: a hint without a known parent means the newest block.
    """
    pairs: list[tuple[Hint, Probe]] = []
    for probe in blocks:
        if (hint := _newest_block(inputs, probe, now)) is not None:
            pairs.append((hint, probe))
    for stream in candidates.wanted(inputs.catalogue, inputs.policy):
        if stream.parent is None or backoff.is_skipped(inputs.progress, stream, now):
            continue
        for name, hint in inputs.hints.get(stream.name, {}).items():
            child = inputs.progress.child(stream.name, name)
            parent = inputs.progress.parents.get(stream.parent, {}).get(name)
            if child and parent and not parent.gone and not backoff.in_backoff(child, now):
                pairs.append((hint, candidates.list_probe(inputs, stream, child, now, hinted=True)))
    pairs.sort(key=lambda pair: pair[0].since)
    return [first(probe) for _, probe in pairs[: inputs.hint_requests]]


def first(probe: Probe) -> Probe:
    """Return the probe as it is sent for a hint: before anything else, unless it failed lately."""
    tier = probe.tier if probe.tier is Tier.LAST else Tier.PRIORITY
    return replace(probe, hinted=True, priority=ANNOUNCED, tier=tier)


def _newest_block(inputs: PlanInputs, probe: Probe, now: datetime) -> Hint | None:
    """Return the oldest hint that a probe of a list without parents, or of its newest block, answers."""
    if probe.check is not None and (probe.check.block.until is not None or probe.check.part):
        return None
    streams = (probe.stream, *children(inputs.catalogue, probe.stream.name))
    hints = (inputs.hints.get(stream.name, {}).get(ANYWHERE) for stream in streams)
    due = [hint for hint in hints if hint and hint.since <= now]
    return min(due, key=lambda hint: hint.since, default=None)


@dataclass(slots=True)
class Unplaced:
    """The hints of one run without a known parent, by stream, and the requests left for them."""

    rows: dict[str, int]
    requests: float

    @classmethod
    def begin(cls, inputs: PlanInputs, spent: int) -> "Unplaced":
        """Return them at the start of a run that spends so many requests on the other hints."""
        counts = {name: hint.count for name, of in inputs.hints.items() if (hint := of.get(ANYWHERE))}
        return cls(counts, inf if inputs.hint_requests is None else inputs.hint_requests - spent)

    def take(self, inputs: PlanInputs, stream: Stream, child: ChildState) -> bool:
        """Return whether to read a list with news now, because one of these hints may mean it."""
        left = self.rows.get(stream.name, 0)
        if not (left > 0 and self.requests >= 1 and is_hinted(inputs, stream) and candidates.has_news(child)):
            return False
        self.rows[stream.name], self.requests = left - 1, self.requests - 1
        return True

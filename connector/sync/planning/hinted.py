"""What is requested for the sake of hints, and how much of the budget that may be.

A hint is a counter that has moved by so many: its list is read without checking its block first. Whatever it
says, no more than a share of the requests is spent on it, and what it does not say is found as ever.
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
from connector.sync.planning.probes import Picture, Probe, Turn
from connector.sync.planning.queue import ANNOUNCED

# Of what hints usually announce, so much is taken to come with one: some of it is looked for all the same.
BELIEVED = 0.9


def requests_for_hints(share: float, on_hints: int, spent: int, available: float) -> int:
    """Return how many requests hints may use: a share of what was released, so is spent or available."""
    return max(0, floor(share * (spent + available) - on_hints))


def unannounced(state: StreamState) -> float:
    """Return the share of a stream's rows that come without a hint."""
    return 1 - BELIEVED * state.hint_share


def is_hinted(picture: Picture, stream: Stream, parent: str = ANYWHERE) -> bool:
    return parent in picture.hints.get(stream.name, ())


def probes(picture: Picture, blocks: Iterable[Probe], now: datetime) -> list[Probe]:
    """Return the lists that hints name, the first announced first, as many as may be read for their sake.

    `blocks` are the probes of lists without parents: a hint whose parent is not known means the newest block.
    """
    found: list[tuple[Hint, Probe]] = []
    for probe in blocks:
        if (hint := _newest_block(picture, probe, now)) is not None:
            found.append((hint, probe))
    for stream in candidates.wanted(picture.catalogue, picture.policy):
        if stream.parent is None or backoff.is_skipped(picture.progress, stream, now):
            continue
        for name, hint in picture.hints.get(stream.name, {}).items():
            child = picture.progress.child(stream.name, name)
            parent = picture.progress.parents.get(stream.parent, {}).get(name)
            if child and parent and not parent.gone and not backoff.in_backoff(child, now):
                found.append((hint, candidates.list_probe(picture, stream, child, now, hinted=True)))
    found.sort(key=lambda each: each[0].since)
    return [first(probe) for _, probe in found[: picture.hint_requests]]


def first(probe: Probe) -> Probe:
    """Return the probe as it is sent for a hint's sake: before anything else, if it did not fail lately."""
    turn = probe.turn if probe.turn is Turn.LAST else Turn.PRIORITY
    return replace(probe, hinted=True, priority=ANNOUNCED, turn=turn)


def _newest_block(picture: Picture, probe: Probe, now: datetime) -> Hint | None:
    """Return the oldest hint that a probe of a list without parents, or of its newest block, answers."""
    if probe.check is not None and (probe.check.block.until is not None or probe.check.part):
        return None
    streams = (probe.stream, *children(picture.catalogue, probe.stream.name))
    hints = (picture.hints.get(each.name, {}).get(ANYWHERE) for each in streams)
    ready = [hint for hint in hints if hint and hint.since <= now]
    return min(ready, key=lambda hint: hint.since, default=None)


@dataclass(slots=True)
class Unplaced:
    """The hints of one run whose parent is not known, by stream, and how many requests are left for them."""

    rows: dict[str, int]
    requests: float

    @classmethod
    def begin(cls, picture: Picture, spent: int) -> "Unplaced":
        """Return them as a run begins that spends so many requests on the other hints."""
        found = {name: hint.count for name, of in picture.hints.items() if (hint := of.get(ANYWHERE))}
        return cls(found, inf if picture.hint_requests is None else picture.hint_requests - spent)

    def take(self, picture: Picture, stream: Stream, child: ChildState) -> bool:
        """Return whether a list that a check has shown to have news is read now, as it may be a hint's."""
        left = self.rows.get(stream.name, 0)
        if not (
            left > 0 and self.requests >= 1 and is_hinted(picture, stream) and candidates.has_news(child)
        ):
            return False
        self.rows[stream.name], self.requests = left - 1, self.requests - 1
        return True

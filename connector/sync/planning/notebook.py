"""What a run learns about the pace at which rows come; pure but for the progress that it updates."""

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta

from connector.beamer.catalogue import Stream
from connector.state.progress import ChildState, ParentState
from connector.sync.lists import counters
from connector.sync.planning import candidates, curves
from connector.sync.planning.curves import HOUR
from connector.sync.planning.picture import Picture

# The curves change slowly.
REFITTED = timedelta(days=1)


class Notebook:
    """What the looks of one run showed: rows that came at a parent between two ages."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, float, int]]] = defaultdict(list)

    def note(
        self, stream: str, parent: ParentState, before: ChildState, after: ChildState, now: datetime
    ) -> None:
        """A child list was seen again: `parent` and `before` are as they were before this look."""
        if parent.looked_at:
            ages = (parent.looked_at - parent.date) / HOUR, (now - parent.date) / HOUR
            self._seen[stream].append((*ages, counters.risen(after.counter, before.counter)))

    def learn(self, picture: Picture, now: datetime) -> None:
        """Put down what was seen, and fit the curves of the child streams anew, once a day."""
        for stream in candidates.wanted(picture.catalogue, picture.policy):
            state = picture.progress.streams[stream.name]
            if stream.parent is None:
                continue
            due = state.fitted_at is None or now - state.fitted_at >= REFITTED
            sample = _sample(picture, stream) if due else []
            if not sample and not self._seen[stream.name]:
                continue
            known = curves.restore(state.curve).observed(self._seen[stream.name])
            fitted_at = state.fitted_at
            if sample:
                known, fitted_at = known.refitted(sample), now
            picture.progress.streams[stream.name] = replace(state, curve=known.dump(), fitted_at=fitted_at)


def _sample(picture: Picture, stream: Stream) -> list[tuple[float, int]]:
    parents = picture.progress.parents.get(stream.parent or "", {})
    lists = picture.progress.children.get(stream.name, {})
    return [
        ((parent.looked_at - parent.date) / HOUR, counters.total(lists[parent.id].counter))
        for parent in parents.values()
        if parent.looked_at and parent.id in lists and not parent.gone
    ]

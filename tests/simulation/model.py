"""The promises once more, as a small model: what may become of a row, checked after every run.

A row is shown by Beamer, then seen; one that is sent is queued in the same transaction, sent, and confirmed
only when Segment has it. What Segment refuses is kept. No row takes any other step, and none takes one back.
"""

from collections.abc import Mapping
from enum import IntEnum

from tests.simulation import oracle
from tests.simulation.plan import MOVED
from tests.simulation.snapshot import Key, Queued, Snapshot
from tests.simulation.universe import Universe
from tests.simulation.wrong import Wrong

EVENT = 1


class State(IntEnum):
    SEEN = 1
    QUEUED = 2
    SENT = 3
    REFUSED = 4
    CONFIRMED = 5


# To those that a row may be in after a run, from the one that it was in before. None: it was not seen.
STEPS: dict[State | None, set[State]] = {
    None: {*State},
    State.SEEN: {State.SEEN},
    State.QUEUED: {State.QUEUED, State.SENT, State.REFUSED, State.CONFIRMED},
    State.SENT: {State.QUEUED, State.SENT, State.REFUSED, State.CONFIRMED},
    State.REFUSED: {State.QUEUED, State.SENT, State.REFUSED, State.CONFIRMED},
    State.CONFIRMED: {State.CONFIRMED},
}


class Model:
    """One life's rows; `check` raises Wrong with the first one that took a step that it may not take."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self._destinations = {m.name: (m.destination, MOVED) for m in universe.plan.members}
        self._states: dict[Key, State] = {}
        # Rows on their way, with the ids that their messages may have.
        self._open: dict[Key, tuple[str, ...]] = {}
        self._confirmed: dict[str, Key] = {}
        self._landed: set[str] = set()
        self._read = 0

    def restart(self, snapshot: Snapshot) -> None:
        """Begin again with what the database holds, as it has gone back to what it had been."""
        self._states.clear()
        self._open.clear()
        self._confirmed.clear()
        self.check(snapshot)

    def check(self, snapshot: Snapshot) -> None:
        """Compare the database with where its rows were after the last run."""
        landed = self._universe.box.segment.landed
        self._landed.update(each.message["messageId"] for each in landed[self._read :])
        self._read = len(landed)
        for message_id in snapshot.outbox.keys() & self._confirmed.keys():
            raise self._wrong(self._confirmed[message_id], "is queued again, and was confirmed")
        for key, verdict in snapshot.new_rows.items():
            if key not in self._states and key not in self._open:
                self._begin(key, verdict)
            elif (verdict == EVENT) != (self._states.get(key) is not State.SEEN):
                raise self._wrong(key, f"was judged again, with verdict {verdict}")
        for key, ids in list(self._open.items()):
            self._step(key, self._state(key, ids, snapshot.outbox))
        if snapshot.rows != len(self._states):
            raise Wrong(f"model: {snapshot.rows} rows are stored, and {len(self._states)} were seen")

    def _begin(self, key: Key, verdict: int) -> None:
        connection, stream, row_id = key
        if (stream, row_id) not in self._universe.network.shown:
            raise self._wrong(key, "is stored, and no answer has shown it")
        if verdict != EVENT:
            self._states[key] = State.SEEN
            return
        row = self._universe.box.world._by_id[stream][row_id]
        self._open[key] = tuple(oracle.message_id(row, each) for each in self._destinations[connection])

    def _state(self, key: Key, ids: tuple[str, ...], outbox: Mapping[str, Queued]) -> State:
        for message_id in ids:
            if queued := outbox.get(message_id):
                if queued.state == "dead":
                    return State.REFUSED
                return State.SENT if queued.state == "flight" or queued.tries else State.QUEUED
        if self._landed.isdisjoint(ids) and self._universe.dropped.isdisjoint(ids):
            was = self._states.get(key)
            raise self._wrong(key, f"is neither queued nor at Segment; it was {was.name if was else 'new'}")
        return State.CONFIRMED

    def _step(self, key: Key, state: State) -> None:
        before = self._states.get(key)
        if state not in STEPS[before]:
            raise self._wrong(key, f"went from {before and before.name} to {state.name}")
        self._states[key] = state
        if state is State.CONFIRMED:
            self._confirmed.update(dict.fromkeys(self._open.pop(key), key))

    def _wrong(self, key: Key, what: str) -> Wrong:
        return Wrong(f"model: {' '.join(key)} {what}")

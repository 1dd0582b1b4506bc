"""Two runs at once: one is suspended somewhere, another one starts, and they go on in turns."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from tests.simulation.baton import Baton
from tests.simulation.process import Ending, Fate, Process
from tests.simulation.universe import Universe


class Overlap(NamedTuple):
    """How two runs overlap: the first one is suspended at the n-th moment of a kind (None: of any)."""

    other: str
    """The connection of the second one."""
    kind: str | None
    moment: int
    suspended: timedelta
    anywhere: bool = False
    """Whether also in the middle of a transaction."""


class Pair:
    """Two runs; `often`: how often they take turns, where that is drawn. `name` is that of the choice."""

    def __init__(
        self, universe: Universe, name: str, first: Process, second: Process, overlap: Overlap, often: float
    ) -> None:
        self._universe, self._name, self._first, self._second = universe, name, first, second
        first.partner, second.partner = second, first
        self._overlap, self._often = overlap, often
        self._fate = Fate(overlap.kind, overlap.moment)
        self._asleep = self._due = False
        self._endings: list[tuple[Process, Ending]] = []

    def run(self) -> list[tuple[Process, Ending]]:
        baton = Baton()
        for process in (self._first, self._second):
            process.pause = self._pausing(baton, process)
            baton.add(process.name, partial(self._go, process))
        baton.go()
        return self._endings

    def _go(self, process: Process) -> None:
        self._endings.append((process, process.run()))

    def _pausing(self, baton: Baton, process: Process) -> Callable[[str], None]:
        def pause(kind: str) -> None:
            if process is self._first and not self._asleep and self._strikes(kind, process):
                self._suspend(process, kind)
            elif not self._asleep or not self._takes_turn(process, kind) or not self._may(process):
                return
            baton.pause(process.name)

        return pause

    def _suspend(self, process: Process, kind: str) -> None:
        universe, overlap = self._universe, self._overlap
        self._asleep, process.suspended = True, kind
        universe.choices.settle(self._name, tuple(overlap._replace(kind=kind, moment=process.passed[kind])))
        universe.census.sums["overlaps"] += 1
        universe.tell(f"{process.name} is suspended {kind} ({process.passed[kind]}) for {overlap.suspended}")
        universe.box.advance(overlap.suspended)

    def _takes_turn(self, process: Process, kind: str) -> bool:
        name = f"{process.name} lets the other go on {kind} {process.passed[kind]}"
        return self._universe.choices.choose(name, False, self._drawn_turn)

    def _drawn_turn(self) -> bool:
        return self._universe.rng.random() < self._often

    def _may(self, process: Process) -> bool:
        """Hardly ever in the middle of a transaction: on SQLite it locks the other one out."""
        anywhere = self._overlap.anywhere and self._universe.disk.pauses_inside
        return anywhere or not process.in_transaction

    def _strikes(self, kind: str, process: Process) -> bool:
        self._due = self._due or self._fate.strikes(kind)
        return self._due and self._may(process)

"""Two runs at once: one is suspended somewhere, another one starts, and they go on in turns."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from tests.simulation.baton import Baton
from tests.simulation.process import Ending, Fate, Process
from tests.simulation.universe import Universe


class Pair:
    """Two runs, the first suspended at `fate` for a while that the seed chooses."""

    def __init__(self, universe: Universe, first: Process, second: Process, fate: Fate) -> None:
        self._universe, self._first, self._second, self._fate = universe, first, second, fate
        first.partner, second.partner = second, first
        self._rng = universe.rng
        self._asleep = self._due = False
        self._often = self._rng.choice((0.0, 0.02, 0.2))
        self._anywhere = self._rng.random() < 0.1 and universe.disk.pauses_inside
        self._endings: dict[str, Ending] = {}
        self._now = first
        self._suspended = timedelta(
            seconds=self._rng.choice((0, 5, 50, 59, 61, 61, 90, 600, 3_600, 6 * 3_600))
        )

    def run(self) -> list[Ending]:
        baton = Baton()
        for process in (self._first, self._second):
            process.pause = self._pausing(baton, process)
            baton.add(process.name, partial(self._go, process))
        baton.go()
        return list(self._endings.values())

    def _go(self, process: Process) -> None:
        self._endings[process.name] = process.run()

    def _pausing(self, baton: Baton, process: Process) -> Callable[[str], None]:
        def pause(kind: str) -> None:
            if process is self._first and not self._asleep and self._strikes(kind, process):
                self._asleep, process.suspended = True, kind
                self._universe.census.sums["overlaps"] += 1
                self._universe.tell(f"{process.name} is suspended {kind} for {self._suspended}")
                self._universe.box.advance(self._suspended)
            elif not self._asleep or self._rng.random() >= self._often or not self._may(process):
                return
            baton.pause(process.name)

        return pause

    def _may(self, process: Process) -> bool:
        """Hardly ever in the middle of a transaction: on SQLite it locks the other one out."""
        return self._anywhere or not process.in_transaction

    def _strikes(self, kind: str, process: Process) -> bool:
        self._due = self._due or self._fate.strikes(kind)
        return self._due and self._may(process)

"""What is still to be asked in a run, and what is on its way."""

from collections import Counter, deque
from collections.abc import Callable, Collection
from concurrent.futures import Future

from connector.beamer.door import Answer
from connector.sync.probes import Probe


class Agenda:
    """The probes of one run, in the order in which they are asked."""

    def __init__(self) -> None:
        self._waiting: deque[Probe] = deque()
        self._flights: dict[Future[Answer], Probe] = {}
        self._lists: set[tuple[str, str]] = set()
        self._looks: Counter[str] = Counter()
        self._dropped: set[str] = set()

    @property
    def flights(self) -> Collection[Future[Answer]]:
        return self._flights.keys()

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._flights

    def add(self, probe: Probe) -> None:
        """Ask this when everything before it was asked; a list that is under way is not begun twice."""
        if probe.stream.name in self._dropped:
            return
        if probe.look:
            self._looks[probe.stream.name] += 1
        elif (probe.stream.name, probe.parent) in self._lists:
            return
        self._lists.add((probe.stream.name, probe.parent))
        self._waiting.append(probe)

    def first(self, probe: Probe) -> None:
        """Ask a probe's next page, or the same again, before anything else."""
        if probe.stream.name not in self._dropped:
            self._waiting.appendleft(probe)

    def next(self, alone: Callable[[Probe], bool]) -> Probe | None:
        """Take the next probe; of a stream whose habits are unknown, one list at a time is asked.

        Otherwise a first run would make every thread look behind a short page for the same answer.
        """
        busy = {probe.stream.name for probe in self._flights.values() if alone(probe)}
        for index, probe in enumerate(self._waiting):
            if probe.stream.name not in busy or not alone(probe):
                del self._waiting[index]
                return probe
        return None

    def fly(self, flight: Future[Answer], probe: Probe) -> None:
        self._flights[flight] = probe

    def land(self, landed: Collection[Future[Answer]]) -> list[tuple[Future[Answer], Probe]]:
        """Take those that have landed, in the order in which they set out."""
        here = [flight for flight in self._flights if flight in landed]
        return [(flight, self._flights.pop(flight)) for flight in here]

    def close(self, probe: Probe) -> None:
        """A probe was answered to its end."""
        if probe.look:
            self._looks[probe.stream.name] -= 1
        self._lists.discard((probe.stream.name, probe.parent))

    def drop(self, stream: str) -> None:
        """Ask nothing more of a stream in this run."""
        self._dropped.add(stream)
        self._waiting = deque(probe for probe in self._waiting if probe.stream.name != stream)

    def looked_through(self, stream: str) -> bool:
        """Whether every block of a stream was looked at to its end."""
        return stream in self._looks and self._looks[stream] == 0

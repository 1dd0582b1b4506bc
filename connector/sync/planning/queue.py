"""The queue of probes of one run, by priority, and what is in flight."""

from collections.abc import Callable, Collection
from concurrent.futures import Future
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from connector.beamer.request import Answer
from connector.sync.planning.probes import Probe, Turn

# Shares of all requests that are kept, whatever else would be worth more: the mean must not be bought with
# rows that never come. One request in so many, and which of them.
TURNS = {Turn.AUDIT: (50, 49), Turn.OVERDUE: (5, 3), Turn.HISTORY: (20, 1)}


# Above any priority but that of what is asked first of all.
ANNOUNCED = 1e12


class ProbeQueue:
    """The probes of one run: the one of the highest priority is next, and of equal ones, the first.

    `spent_before` is how many requests the account has spent before, so that turns go round over many runs;
    `available` is how many may be spent now, None without a limit; `saving` is how many are lacking for what
    is worth most, and `per_run` how many come in between two runs. `reserved` is how many another
    connection of the account has been waiting for, and for longer: they are left to it. `most` is how many
    this run may spend at all.
    """

    def __init__(
        self,
        spent_before: int = 0,
        available: float | None = None,
        *,
        per_run: float = 0.0,
        reserved: float = 0.0,
        most: int | None = None,
    ) -> None:
        self.spent_before = spent_before
        self.available = available
        self.per_run = per_run
        self.reserved = reserved
        self.most = most
        self.saving = 0.0
        self.saves_for = 0.0
        self._kept = 0
        self._order = count()
        self._waiting: dict[Turn, list[tuple[float, int, Probe]]] = {turn: [] for turn in Turn}
        self._flights: dict[Future[Answer], Probe] = {}
        self._lists: set[tuple[str, str]] = set()
        self._dropped: set[str] = set()
        self._unseen: set[str] = set()

    @property
    def flights(self) -> Collection[Future[Answer]]:
        return self._flights.keys()

    @property
    def waits(self) -> bool:
        return any(self._waiting.values())

    @property
    def ready(self) -> int:
        """How many probes wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, probe: Probe) -> None:
        """Put a probe into the queue; a list that is under way is not begun twice."""
        if probe.stream.name in self._dropped:
            return
        if not probe.check and not probe.window:
            if (probe.stream.name, probe.parent) in self._lists:
                return
            self._lists.add((probe.stream.name, probe.parent))
        if probe.unseen:
            self._unseen.add(probe.stream.name)
        self.onward(probe)

    def onward(self, probe: Probe) -> None:
        """Ask a probe's next page when its priority is the highest."""
        if probe.stream.name not in self._dropped:
            # What is overdue is asked in the order of time, or its turns would go by priority again.
            rank = probe.overdue if probe.turn is Turn.OVERDUE else probe.priority
            if self._in_vain(probe):
                rank = min(rank, 0.0)
            if probe.window and probe.turn is Turn.AUDIT:
                # What has no counter is seen by its audit alone: within those, it comes before all lists.
                rank = inf
            turn = probe.turn
            if probe.announced and not self._in_vain(probe):
                turn, rank = Turn.PRIORITY, ANNOUNCED + probe.overdue
            heappush(self._waiting[turn], (-rank, next(self._order), probe))

    def _in_vain(self, probe: Probe) -> bool:
        """Whether this run may not spend what a first check further back needs.

        Cut short it would begin anew in each run, for ever: what can be finished comes first.
        """
        if self.most is None or not probe.unseen or probe.going_on or probe.needs <= self.most:
            return False
        return probe.check is not None and bool(probe.check.block.members)

    def first(self, probe: Probe) -> None:
        """Ask a probe's next page, or the same again, before anything else."""
        if probe.stream.name not in self._dropped:
            heappush(self._waiting[Turn.PRIORITY], (-inf, -next(self._order), probe))

    def next(self, alone: Callable[[Probe], bool]) -> Probe | None:
        """Take the next probe; of a stream whose habits are unknown, one list at a time is asked.

        Otherwise a first run would make every thread look behind a short page for the same answer.
        """
        busy = {probe.stream.name for probe in self._flights.values() if alone(probe)}
        held: list[tuple[Turn, tuple[float, int, Probe]]] = []
        found = None
        while found is None and (turn := self._turn()):
            first = self._waiting[turn][0][2]
            if self._saves(first) or self._spoken_for(first):
                break
            entry = heappop(self._waiting[turn])
            if entry[2].stream.name in busy and alone(entry[2]):
                held.append((turn, entry))
            else:
                found = entry[2]
        for turn, entry in held:
            heappush(self._waiting[turn], entry)
        if found:
            self.spent_before += 1
            self.available = None if self.available is None else self.available - 1
            self._keep(found)
        return found

    def not_sent(self) -> None:
        """A request that was taken for a probe was never sent: it is at hand again."""
        self.available = None if self.available is None else self.available + 1

    def _spoken_for(self, probe: Probe) -> bool:
        """Whether what is at hand is kept for the further pages of checks that are on their way."""
        if self.available is None or probe.going_on or self.available < 1:
            return False
        if self.available >= self._kept + self.reserved + 1:
            return False
        self.saves_for = max(self.saves_for, probe.needs) if self.reserved else self.saves_for
        return True

    def _keep(self, probe: Probe) -> None:
        if probe.going_on:
            page = min(1, probe.kept)
            self._kept -= page
            probe.kept -= page
        else:
            probe.going_on = True
            self._kept += probe.kept

    def _saves(self, probe: Probe) -> bool:
        """Whether to wait until enough is at hand to read what a check shows at once."""
        # Where a run finds more than that each time, waiting for the next one saves nothing.
        if probe.turn is not Turn.PRIORITY or self.available is None or probe.needs <= self.per_run:
            return False
        # What was begun goes on with what is there.
        if probe.going_on:
            return False
        needs = probe.needs if self.most is None else min(probe.needs, self.most)
        self.saving = max(0.0, needs - (self.available - self._kept))
        self.saves_for = probe.needs if self.saving else 0.0
        return self.saving > 0

    def _turn(self) -> Turn | None:
        """Whose turn it is: a share of the requests is kept; the others go by priority alone."""
        begun = self._waiting[Turn.PRIORITY]
        if begun and begun[0][0] <= -ANNOUNCED:
            return Turn.PRIORITY
        for turn, (every, which) in TURNS.items():
            if self._waiting[turn] and self.spent_before % every == which:
                return turn
        # Page after page shows what there is at all: history must not eat up what is at hand meanwhile.
        passed_over = Turn.HISTORY if self._unseen else None
        return max(
            (turn for turn in Turn if self._waiting[turn] and turn is not passed_over),
            key=lambda turn: self._waiting[turn][0][2].priority,
            default=None,
        )

    def fly(self, flight: Future[Answer], probe: Probe) -> None:
        self._flights[flight] = probe

    def launched(self, before: Future[Answer], flight: Future[Answer]) -> None:
        """What stood in for a flight has become one."""
        self._flights[flight] = self._flights.pop(before)

    def land(self, landed: Collection[Future[Answer]]) -> list[tuple[Future[Answer], Probe]]:
        """Take those that have landed, in the order in which they set out."""
        here = [flight for flight in self._flights if flight in landed]
        return [(flight, self._flights.pop(flight)) for flight in here]

    def close(self, probe: Probe) -> None:
        """A probe was answered to its end."""
        self.release(probe)
        if not probe.window:
            self._lists.discard((probe.stream.name, probe.parent))

    def release(self, probe: Probe) -> None:
        """What was kept for a probe's further pages is for others: there will be none of them in this run."""
        self._kept -= probe.kept if probe.going_on else 0
        probe.kept = 0
        if probe.unseen:
            self._unseen.discard(probe.stream.name)

    def drop(self, stream: str) -> None:
        """Ask nothing more of a stream in this run."""
        self._dropped.add(stream)
        for turn, waiting in self._waiting.items():
            for _, _, probe in waiting:
                if probe.stream.name == stream:
                    self.release(probe)
            self._waiting[turn] = [entry for entry in waiting if entry[2].stream.name != stream]
            heapify(self._waiting[turn])

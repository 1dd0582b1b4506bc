"""The queue of one run: which probe is requested next, and which are in flight."""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from math import exp, inf

from connector.sync.planning.probes import Job, Probe, Tier

# Shares of all requests that are kept, whatever else has a higher priority, so that no row waits for ever:
# one request in so many, and which of them.
TIERS = {Tier.AUDIT: (50, 49), Tier.OVERDUE: (5, 3), Tier.HISTORY: (20, 1)}


@dataclass(frozen=True, slots=True)
class Price:
    """What the priority of a request must exceed: `level` while `target` requests are available."""

    level: float
    target: float

    def at(self, available: float) -> float:
        return self.level * exp(-STEEPNESS * (available - self.target) / self.target)


# How many days' requests are saved for probes of a higher priority; and how fast the price follows.
TARGET_DAYS = 0.3
STEEPNESS, GAIN = 0.7, 0.02
FIRST_PRICE, LOWEST_PRICE, HIGHEST_PRICE = 10.0, 0.01, 1e6
# History is read from requests beyond this multiple of the target, such as a new account's grant.
FOR_HISTORY = 2.0


def price_now(
    before: float | None, available: float | None, per_day: float | None, hours: float
) -> Price | None:
    """Return a request's price, `hours` after it was `before`; None if nothing is saved.

    A connection that gains more requests between two syncs than it would save spends them at once.
    """
    if available is None or not per_day:
        return None
    target = max(1.0, TARGET_DAYS * per_day)
    if hours / 24 * per_day > target:
        return None
    if before is None:
        return Price(FIRST_PRICE, target)
    over = max(-1.0, min(2.0, (available - target) / target))
    # Neither an outage nor a quiet year changes it so much that it takes weeks to recover.
    hours = max(0.0, min(24.0, hours))
    return Price(max(LOWEST_PRICE, min(HIGHEST_PRICE, before * exp(-GAIN * hours * over))), target)


# Above any priority but that of the very first requests.
ANNOUNCED = 1e12


class ProbeQueue:
    """The probes of one run: the one of the highest priority is next, and of equal ones, the first.

    `spent_before` is how many requests the account has spent before, so that tiers alternate over many
    runs; `available` is how many may be spent now, None without a limit; `saving` is how many are missing for
    the highest priority, and `per_run` how many become available between two runs. `reserved` are left to
    another connection of the account that has waited longer for them. `most` is how many this run may spend
    at all.
    """

    def __init__(
        self,
        spent_before: int = 0,
        available: float | None = None,
        *,
        per_run: float = 0.0,
        reserved: float = 0.0,
        most: int | None = None,
        price: Price | None = None,
    ) -> None:
        self.price = price
        self.spent_before = spent_before
        self.available = available
        self.per_run = per_run
        self.reserved = reserved
        self.most = most
        self.saving = 0.0
        self.saves_for = 0.0
        self._further_requests = 0
        self._order = count()
        self._waiting: dict[Tier, list[tuple[float, int, Job]]] = {tier: [] for tier in Tier}
        self._in_flight: list[Job] = []
        self._lists: set[tuple[str, str]] = set()
        self._dropped: set[str] = set()
        self._unseen: set[str] = set()

    @property
    def in_flight(self) -> int:
        """Return how many probes are in flight."""
        return len(self._in_flight)

    @property
    def waits(self) -> bool:
        return any(self._waiting.values())

    @property
    def ready(self) -> int:
        """Return how many probes wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, probe: Probe) -> None:
        """Put a probe into the queue; a list in progress is not started twice."""
        if probe.stream.name in self._dropped:
            return
        if not probe.check and not probe.window:
            if (probe.stream.name, probe.parent) in self._lists:
                return
            self._lists.add((probe.stream.name, probe.parent))
        if probe.unseen:
            self._unseen.add(probe.stream.name)
        self.put(Job(probe))

    def put(self, job: Job) -> None:
        """Queue a job's next page by its priority."""
        probe = job.probe
        if probe.stream.name not in self._dropped:
            # Overdue probes are requested in the order of time; by priority, some would wait for ever.
            rank = probe.overdue if probe.tier is Tier.OVERDUE else probe.priority
            if self._in_vain(job):
                rank = min(rank, 0.0)
            if probe.window and probe.tier is Tier.AUDIT:
                # Only the audit finds rows of a list without a counter: it comes before the others.
                rank = inf
            tier = probe.tier
            if probe.announced and not self._in_vain(job):
                tier, rank = Tier.PRIORITY, ANNOUNCED + probe.overdue
            heappush(self._waiting[tier], (-rank, next(self._order), job))

    def _in_vain(self, job: Job) -> bool:
        """Return whether this run may not spend what a first check further back needs.

        An interrupted one would start again in each run, for ever: probes that can be finished come first.
        """
        probe = job.probe
        if self.most is None or not probe.unseen or job.started or probe.needs <= self.most:
            return False
        return probe.check is not None and bool(probe.check.block.members)

    def put_first(self, job: Job) -> None:
        """Queue a job's next page, or the same page again, before anything else."""
        if job.probe.stream.name not in self._dropped:
            heappush(self._waiting[Tier.PRIORITY], (-inf, -next(self._order), job))

    def next(self, one_at_a_time: Callable[[Probe], bool]) -> Job | None:
        """Take the next probe; of a stream of unknown behaviour, one list at a time is requested.

        Otherwise every thread of a first run would read past a short page for the same answer.
        """
        busy = {job.probe.stream.name for job in self._in_flight if one_at_a_time(job.probe)}
        passed_over: list[tuple[Tier, tuple[float, int, Job]]] = []
        chosen = None
        while chosen is None and (tier := self._next_tier()):
            first = self._waiting[tier][0][2]
            if self._saves(first) or self._spoken_for(first):
                break
            entry = heappop(self._waiting[tier])
            probe = entry[2].probe
            if probe.stream.name in busy and one_at_a_time(probe):
                passed_over.append((tier, entry))
            else:
                chosen = entry[2]
        for tier, entry in passed_over:
            heappush(self._waiting[tier], entry)
        if chosen:
            self.spent_before += 1
            self.available = None if self.available is None else self.available - 1
            self._keep(chosen)
        return chosen

    def sent(self, job: Job) -> None:
        """Note that a job's request is in flight."""
        self._in_flight.append(job)

    def landed(self, job: Job) -> None:
        """Note that a job's request was answered, or failed."""
        self._in_flight = [other for other in self._in_flight if other is not job]

    def not_sent(self) -> None:
        """Note that a request taken for a probe was never sent: it is available again."""
        self.available = None if self.available is None else self.available + 1

    def _spoken_for(self, job: Job) -> bool:
        """Return whether the available requests are reserved for further pages of checks in progress."""
        if self.available is None or job.started or self.available < 1:
            return False
        if self.available >= self._further_requests + self.reserved + 1:
            return False
        self.saves_for = max(self.saves_for, job.probe.needs) if self.reserved else self.saves_for
        return True

    def _keep(self, job: Job) -> None:
        if job.started:
            page = min(1, job.further_requests)
            self._further_requests -= page
            job.further_requests -= page
        else:
            job.started, job.further_requests = True, job.probe.further_pages
            self._further_requests += job.further_requests

    def _saves(self, job: Job) -> bool:
        """Return whether to wait until enough is available to read what a check shows at once."""
        probe = job.probe
        # If each run has more than that available, waiting for the next one saves nothing.
        if probe.tier is not Tier.PRIORITY or self.available is None or probe.needs <= self.per_run:
            return False
        # A started job continues with the available requests.
        if job.started:
            return False
        needs = probe.needs if self.most is None else min(probe.needs, self.most)
        self.saving = max(0.0, needs - (self.available - self._further_requests))
        self.saves_for = probe.needs if self.saving else 0.0
        return self.saving > 0

    def _too_dear(self, tier: Tier) -> bool:
        """Return whether to save a request for a higher priority."""
        job = self._waiting[tier][0][2]
        if self.price is None or self.available is None or job.started:
            return False
        if tier is Tier.HISTORY:
            return self.available <= FOR_HISTORY * self.price.target
        return job.probe.priority <= self.price.at(self.available)

    def _due(self) -> Tier | None:
        """Return the tier whose share of all requests the next one belongs to."""
        for tier, (every, which) in TIERS.items():
            if self._waiting[tier] and self.spent_before % every == which:
                return tier
        return None

    def _next_tier(self) -> Tier | None:
        """Return the next request's tier: some have a share of the requests, the others go by priority."""
        begun = self._waiting[Tier.PRIORITY]
        if begun and begun[0][0] <= -ANNOUNCED:
            return Tier.PRIORITY
        if tier := self._due():
            return tier
        # While unseen pages are read, history must not use up the available requests.
        history = () if self._unseen else (Tier.HISTORY,)
        usual = [tier for tier in (Tier.PRIORITY, Tier.OVERDUE, *history, Tier.AUDIT) if self._waiting[tier]]
        best = max(usual, key=lambda tier: self._waiting[tier][0][2].probe.priority, default=Tier.LAST)
        # If the best is below the price, failed probes and history are next.
        tiers = (best, Tier.LAST, *history)
        return next((tier for tier in tiers if self._waiting[tier] and not self._too_dear(tier)), None)

    def close(self, job: Job) -> None:
        """Remove a probe that was answered to its end."""
        self.release(job)
        if not job.probe.window:
            self._lists.discard((job.probe.stream.name, job.probe.parent))

    def release(self, job: Job) -> None:
        """Release the requests kept for a job's further pages: this run requests none of them."""
        self._further_requests -= job.further_requests
        job.further_requests = 0
        if job.probe.unseen:
            self._unseen.discard(job.probe.stream.name)

    def drop(self, stream: str) -> None:
        """Remove all probes of a stream from this run."""
        self._dropped.add(stream)
        for tier, waiting in self._waiting.items():
            for _, _, job in waiting:
                if job.probe.stream.name == stream:
                    self.release(job)
            self._waiting[tier] = [entry for entry in waiting if entry[2].probe.stream.name != stream]
            heapify(self._waiting[tier])

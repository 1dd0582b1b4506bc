"""Fetches without threads: each is run when it is submitted or when it lands, and they land in any order."""

from collections.abc import Callable, Collection
from concurrent.futures import Future
from random import Random

from connector.beamer.pagination import Answer
from tests.simulation.choices import Choices

Fetch = Callable[[], Answer]


class DisorderlyPool:
    """Stands in for the pool of threads of a process of a name; choices say what runs when."""

    def __init__(
        self, choices: Choices, name: str, rng: Random, size: int, told: Callable[[str], None]
    ) -> None:
        self.size = size
        self._choices = choices
        self._name = name
        self._rng = rng
        self._told = told
        self._fetches = self._landings = 0
        self._waiting: dict[Future[Answer], Fetch] = {}

    def submit(self, fetch: Fetch) -> Future[Answer]:
        future: Future[Answer] = Future()
        self._fetches += 1
        if self._choices.choose(f"{self._name}, fetch {self._fetches} waits", False, self._drawn_wait):
            self._waiting[future] = fetch
        else:
            self._fetch(future, fetch)
        return future

    def _drawn_wait(self) -> bool:
        return self._rng.random() >= 0.5

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:  # noqa: ARG002
        all_of = tuple(range(len(flights)))

        def draw() -> tuple[int, ...]:
            return tuple(self._rng.sample(all_of, self._rng.randint(1, len(flights))))

        self._landings += 1
        numbers = self._choices.choose(f"{self._name}, landing {self._landings}", all_of, draw)
        in_order = list(flights)
        chosen = [in_order[number] for number in numbers if number in all_of] or in_order
        for future in chosen:
            if future in self._waiting:
                self._fetch(future, self._waiting.pop(future))
        return set(chosen)

    def _fetch(self, future: Future[Answer], fetch: Fetch) -> None:
        try:
            future.set_result(fetch())
        except Exception as error:
            # What is no Exception is the end of the process, and goes through.
            future.set_exception(error)
        self._told("after Beamer's answer")

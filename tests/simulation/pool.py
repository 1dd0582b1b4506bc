"""Fetches without threads: each is run when it is submitted or when it lands, and they land in any order."""

from collections.abc import Callable, Collection
from concurrent.futures import Future
from random import Random

from connector.beamer.pagination import Answer

Fetch = Callable[[], Answer]


class DisorderlyPool:
    """Stands in for the pool of threads; the seed says what runs when."""

    def __init__(self, rng: Random, size: int, told: Callable[[str], None]) -> None:
        self.size = size
        self._rng = rng
        self._told = told
        self._waiting: dict[Future[Answer], Fetch] = {}

    def submit(self, fetch: Fetch) -> Future[Answer]:
        future: Future[Answer] = Future()
        if self._rng.random() < 0.5:
            self._fetch(future, fetch)
        else:
            self._waiting[future] = fetch
        return future

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:  # noqa: ARG002
        chosen = self._rng.sample(list(flights), self._rng.randint(1, len(flights)))
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

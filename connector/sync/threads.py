"""The threads that fetch pages."""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Protocol

from connector.beamer.pagination import Answer
from connector.clock import GLANCE, GRACE, Clock

Fetch = Callable[[], Answer]


class Pool(Protocol):
    """Runs fetches; a test's pool may run each one when it is submitted."""

    size: int

    def submit(self, fetch: Fetch) -> Future[Answer]:
        """Start a fetch."""

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:
        """Return finished fetches; wait until there is one, at most `timeout` seconds."""


class ThreadPool:
    """The pool of a real run; it notices a stop while it waits for pages."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.size = size
        self._clock = clock
        self._work: SimpleQueue[tuple[Fetch, Future[Answer]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, fetch: Fetch) -> Future[Answer]:
        if len(self._threads) < self.size:
            self._threads.append(threading.Thread(target=self._run, name="fetch", daemon=True))
            self._threads[-1].start()
        future: Future[Answer] = Future()
        self._work.put((fetch, future))
        return future

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:
        left = timeout
        while left > 0 and not self._clock.stopped:
            if done := wait(flights, min(GLANCE, left), FIRST_COMPLETED).done:
                return done
            left -= GLANCE
        return wait(flights, max(0.0, min(left, GRACE)), FIRST_COMPLETED).done

    def close(self) -> None:
        """Let the threads end after their last fetch: the daemon creates a pool for each run."""
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while work := self._work.get():
            fetch, future = work
            try:
                future.set_result(fetch())
            except BaseException as error:
                future.set_exception(error)
            # The next wait must not keep this answer in memory.
            del work, fetch, future

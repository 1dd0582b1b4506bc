"""A fixed pool of threads that fetch. They are daemons: a hanging request must not keep the process."""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Protocol

from connector.beamer.door import Answer

Fetch = Callable[[], Answer]


class Pool(Protocol):
    """Runs fetches and tells which are done; a test's pool may run each at once."""

    size: int

    def submit(self, fetch: Fetch) -> Future[Answer]:
        """Start a fetch."""

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:
        """Wait until at least one is done, or the time is over; give those that are."""


class ThreadPool:
    """The pool of a real run."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._work: SimpleQueue[tuple[Fetch, Future[Answer]]] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, fetch: Fetch) -> Future[Answer]:
        if len(self._threads) < self.size:
            self._threads.append(threading.Thread(target=self._run, name="fetch", daemon=True))
            self._threads[-1].start()
        future: Future[Answer] = Future()
        self._work.put((fetch, future))
        return future

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:
        return wait(flights, timeout, FIRST_COMPLETED).done

    def _run(self) -> None:
        while True:
            fetch, future = self._work.get()
            try:
                future.set_result(fetch())
            except BaseException as error:
                future.set_exception(error)
            # The next wait must not hold on to what this one has read.
            del fetch, future

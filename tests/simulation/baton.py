"""Processes that take turns: each in a thread of its own, exactly one of which runs at any time.

Who goes on is decided by the pauses that the seed chose, never by the operating system.
"""

import threading
from collections.abc import Callable

Work = Callable[[], None]
# Nothing in a simulation waits for real; whoever waits so long for a turn would wait for ever.
STUCK = 120.0


class Baton:
    """A turn goes to the next one in line, at a pause or at an end."""

    def __init__(self) -> None:
        self._turns: dict[str, threading.Semaphore] = {}
        self._threads: list[threading.Thread] = []
        self._alive: list[str] = []
        self._over = threading.Semaphore(0)
        self._error: BaseException | None = None

    def add(self, name: str, work: Work) -> None:
        self._turns[name] = threading.Semaphore(0)
        self._alive.append(name)
        self._threads.append(
            threading.Thread(target=self._run, args=(name, work), name=f"sim-{name}", daemon=True)
        )

    def go(self) -> None:
        """Run all of them to their ends, the first one first."""
        for thread in self._threads:
            thread.start()
        self._turns[self._alive[0]].release()
        for _ in self._threads:
            if not self._over.acquire(timeout=STUCK):
                raise TimeoutError("A simulated process waits for a turn that never comes.")
        for thread in self._threads:
            thread.join()
        if self._error:
            raise self._error

    def pause(self, name: str) -> None:
        """A moment at which another one may go on."""
        if others := [other for other in self._alive if other != name]:
            self._turns[others[0]].release()
            self._turns[name].acquire()

    def _run(self, name: str, work: Work) -> None:
        self._turns[name].acquire()
        try:
            work()
        except BaseException as error:
            self._error = self._error or error
        self._alive.remove(name)
        if self._alive:
            self._turns[self._alive[0]].release()
        self._over.release()

"""Waiting for answers, but not long after a stop was asked for: for Beamer's pages, for Segment's word."""

from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from functools import partial
from threading import Thread
from typing import Any

from connector.beamer.door import Answer
from connector.clock import Clock
from connector.segment.door import Post
from connector.segment.library import poster
from connector.sync.pool import ThreadPool

# How long an answer is waited for after a stop, and how often a stop is looked for.
GRACE = 1.5
GLANCE = 0.1


class AttentivePool(ThreadPool):
    """A pool that notices a stop while it waits for pages."""

    def __init__(self, size: int, clock: Clock) -> None:
        super().__init__(size)
        self._clock = clock

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:
        while not self._clock.stopped:
            if done := super().landed(flights, GLANCE):
                return done
        return super().landed(flights, min(timeout, GRACE))


def interruptible(clock: Clock, post: Post | None = None) -> Post:
    """A post in a thread of its own; asked to stop, it counts as timed out, and its batch goes again."""

    def send(*args: Any, **options: Any) -> Any:
        answer: Future[Any] = Future()
        work = partial(post or poster(), *args, **options)
        # A daemon: a hanging answer must not keep the process.
        Thread(target=_fulfil, args=(answer, work), name="post", daemon=True).start()
        while not clock.stopped and not wait([answer], GLANCE).done:
            pass
        if not wait([answer], GRACE if clock.stopped else None).done:
            raise TimeoutError("asked to stop")
        return answer.result()

    return send


def _fulfil(answer: Future[Any], work: Callable[[], Any]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:
        answer.set_exception(error)

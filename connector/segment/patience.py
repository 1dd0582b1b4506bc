"""Waiting for Segment's word, but not long after a stop was asked for."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from threading import Thread
from typing import Any

from connector.clock import GLANCE, GRACE, Clock
from connector.segment.door import Post
from connector.segment.library import poster


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

"""Delivery beside the reading: in a thread of its own, so that no request waits for Segment."""

import threading
from typing import Protocol

import structlog

from connector.errors import ConnectorError
from connector.sync.delivery import Delivery

log = structlog.get_logger()


class Courier(Protocol):
    """Delivers what a run collects, while it collects."""

    @property
    def error(self) -> BaseException | None:
        """What ended the deliveries before everything was sent."""

    def go(self) -> None:
        """A batch is full: deliver the full ones."""

    def finish(self) -> None:
        """Deliver what is left, and come to an end."""


class InlineCourier:
    """Delivers at once, in the thread that collects."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.error: BaseException | None = None

    def go(self) -> None:
        self._deliver(whole=True)

    def finish(self) -> None:
        self._deliver(whole=False)

    def _deliver(self, *, whole: bool) -> None:
        if self.error:
            return
        try:
            self._delivery.run(whole=whole)
        except ConnectorError as error:
            log.warning("delivery_stopped", error=error.what)
            self.error = error


class ThreadCourier:
    """Delivers in a thread of its own; it begins again whenever a batch is full."""

    def __init__(self, delivery: Delivery) -> None:
        self._inline = InlineCourier(delivery)
        self._wanted = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="deliver", daemon=True)
        self._thread.start()

    @property
    def error(self) -> BaseException | None:
        return self._inline.error

    def go(self) -> None:
        self._wanted.set()

    def finish(self) -> None:
        self._ending = True
        self._wanted.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            while not self._ending:
                self._wanted.wait()
                self._wanted.clear()
                self._inline.go()
            # What was written while the last ones were on their way is not left behind.
            self._inline.finish()
        except BaseException as error:
            # For the thread that collects, which raises it.
            self._inline.error = error

"""The outbox emptied into Segment, batch by batch, each deleted only when it was confirmed."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from connector.clock import Clock
from connector.errors import ConnectorError, Transient, Unreachable
from connector.segment.batches import MOST, cut
from connector.segment.door import Refused, Segment
from connector.state.outbox import Letter, Outbox
from connector.sync.report import Report
from connector.sync.retries import wait_before

log = structlog.get_logger()


class Delivery:
    """Delivers what waits for one destination."""

    def __init__(
        self,
        outbox: Outbox,
        segment: Segment,
        clock: Clock,
        report: Report,
        *,
        segment_now: Callable[[], datetime],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._segment = segment
        self._clock = clock
        self._report = report
        self._segment_now = segment_now
        self._chance = chance
        self._confirmed = False

    def run(self) -> None:
        """Send until nothing waits, or a stop is asked for.

        Raises KeyRefused or Unreachable with everything unconfirmed put back.
        """
        while not self._clock.stopped and (letters := self._outbox.claim(MOST, self._clock.now())):
            batches = cut(letters, lambda letter: letter.size)
            for index, batch in enumerate(batches):
                try:
                    self._batch(batch)
                except ConnectorError:
                    rest = [letter for later in batches[index + 1 :] for letter in later]
                    self._outbox.put_back(rest, self._clock.now(), arrived_for_sure_not=True)
                    raise

    def _batch(self, batch: Sequence[Letter]) -> None:
        try:
            refused = self._split(batch)
        except ConnectorError:
            self._outbox.put_back(batch, self._clock.now(), arrived_for_sure_not=False)
            raise
        if refused and not self._confirmed:
            self._outbox.put_back(
                [letter for letter, _ in refused], self._clock.now(), arrived_for_sure_not=True
            )
            raise self._all_refused(refused[0][1])
        for letter, answer in refused:
            log.warning("message_refused", message_id=letter.message_id, answer=str(answer.what))
            self._outbox.bury(letter, answer.what, self._clock.now())
            self._report.refused += 1

    def _all_refused(self, answer: Refused) -> Unreachable:
        return Unreachable(
            f"Segment refuses every message: {answer.what}",
            means="Nothing is wrong with one of them; all of them stay waiting.",
            todo="Check SEGMENT_HOST and what stands between here and Segment.",
        )

    def _split(self, batch: Sequence[Letter]) -> list[tuple[Letter, Refused]]:
        """Send a batch; where it is refused, halve it until the messages at fault are found."""
        try:
            self._send(batch)
            return []
        except Refused as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            middle = len(batch) // 2
            return self._split(batch[:middle]) + self._split(batch[middle:])

    def _send(self, batch: Sequence[Letter]) -> None:
        """Send with retries, and confirm; raises when it was refused, or is not confirmed in the end."""
        failures = 0
        while True:
            try:
                self._segment.send([letter.text for letter in batch], self._segment_now())
                break
            except Transient as error:
                failures += 1
                wait = wait_before(failures, error, self._chance())
                if wait is None or self._clock.stopped:
                    raise Unreachable(f"Segment cannot be reached: {error.what}") from None
                log.info("segment_retry", error=error.what, seconds=round(wait, 1))
                self._clock.sleep(wait)
        self._confirmed = True
        self._outbox.confirm(batch, self._clock.now())
        self._report.sent += len(batch)
        self._report.possible_doubles += sum(letter.possible_double for letter in batch)
        log.debug("batch_confirmed", messages=len(batch))

"""Deliver the outbox to Segment, batch by batch; a message is deleted only when it is confirmed."""

import json
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import count
from typing import NamedTuple, Protocol

import structlog

from connector.clock import Clock
from connector.errors import ConnectorError, Stopped, Transient, Unreachable
from connector.segment.client import Refused, SegmentClient
from connector.segment.messages import MOST_BYTES, MOST_MESSAGES, into_batches
from connector.state.outbox import Outbox, OutboxMessage
from connector.state.pace import Pace
from connector.sync.lists.backoff import LONGEST_RETRY, wait_before
from connector.sync.report import Report

log = structlog.get_logger()

# Messages from this number of positions are tried before everything counts as refused.
ELSEWHERE = 10
# The answer stored for a damaged message: Segment would drop it without a word.
UNREADABLE = (
    "It was not sent: its stored text cannot be read (BS-082). `backfill --resend` over the date of its "
    "row creates it again; `outbox drop` deletes it."
)


def _is_readable(text: str) -> bool:
    """Return whether a stored message is complete: an object with an id, and traits or an event's name."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, dict) or not message.get("messageId"):
        return False
    return bool(message.get("event")) or message.get("type") == "identify"


class RefusedMessage(NamedTuple):
    """A message that was refused alone; `at`: the delivery's tick when its batch was first refused."""

    message: OutboxMessage
    answer: Refused
    at: int


class Delivery:
    """Delivers the messages for one destination; up to `lanes` batches are in flight at once.

    A `full` batch has this number of messages, of at most `limit` bytes. The pace may allow less of both.
    """

    def __init__(
        self,
        outbox: Outbox,
        segment: SegmentClient,
        clock: Clock,
        report: Report,
        pace: Pace,
        *,
        segment_now: Callable[[], datetime],
        latest: Callable[[datetime], datetime],
        chance: Callable[[], float] = random.random,
        lanes: int = 1,
        full: int = MOST_MESSAGES,
        limit: int = MOST_BYTES,
    ) -> None:
        self._outbox = outbox
        self._segment = segment
        self._clock = clock
        self._report = report
        self._segment_now = segment_now
        self._latest = latest
        self._chance = chance
        self._pace = pace
        self._lanes = pace.lanes(lanes)
        self._full = pace.batch(full)
        self._limit = limit
        # Numbers attempts and refusals in order; and the number of the last accepted attempt, 0 if none.
        self._ticks = count(1)
        self._taken = 0
        self._counting = threading.Lock()
        # Sent in this run without an answer: they may have arrived, even if they are refused later.
        self._unsure: set[int] = set()

    def run(self, *, whole: bool = False) -> None:
        """Send until nothing waits or a stop is requested; `whole`: only while there are full batches.

        Raises KeyRefused or Unreachable after putting back all unconfirmed messages.
        """
        while not self._clock.stopped and (messages := self._claim(whole=whole)):
            try:
                self._deliver(messages)
            except Stopped:
                return

    def _claim(self, *, whole: bool) -> list[OutboxMessage]:
        backlog = self._report.backlog
        batches = max(0, min(self._lanes, backlog // self._full)) if whole else self._lanes
        if not batches:
            return []
        messages = self._outbox.claim(self._full * batches, self._clock.now())
        if whole and not messages:
            # Somebody deleted messages: a run that waits until fewer are left must not wait for ever.
            self._report.deliveries.dropped(max(0, backlog - self._outbox.waiting()))
        return messages

    def _deliver(self, messages: Sequence[OutboxMessage]) -> None:
        unreadable = [message for message in messages if not _is_readable(message.text)]
        for message in unreadable:
            self._mark_dead(message, UNREADABLE)
        if unreadable:
            messages = [message for message in messages if message not in unreadable]
        batches = into_batches(messages, lambda message: message.size, self._full, self._limit)
        refused = self._try(batches)
        tried = bool(self._doubtful(refused)) and self._try_others(refused)
        doubtful = self._doubtful(refused)
        if len(doubtful) == 1 and self._taken and not tried:
            doubtful = []
        for refusal in refused:
            if refusal not in doubtful:
                self._mark_dead(refusal.message, refusal.answer.what)
        if doubtful:
            self._put_back([refusal.message for refusal in doubtful])
            raise self._all_refused(doubtful[0].answer)

    def _doubtful(self, refused: Sequence[RefusedMessage]) -> list[RefusedMessage]:
        """Return messages refused after the last accepted one: Segment may be refusing everything."""
        return [refusal for refusal in refused if refusal.at > self._taken]

    def _mark_dead(self, message: OutboxMessage, what: str) -> None:
        log.warning("message_refused", message_id=message.message_id, answer=str(what))
        now = self._clock.now()
        self._outbox.mark_dead(message, what, now, self._latest(now), unsure=message.id in self._unsure)
        self._report.deliveries.refused_one()

    def _try(self, batches: Sequence[Sequence[OutboxMessage]]) -> list[RefusedMessage]:
        """Send batches; return the messages that Segment refused, which are still in flight."""
        if self._lanes > 1:
            return self._try_at_once(batches)
        refused: list[RefusedMessage] = []
        for index, batch in enumerate(batches):
            try:
                refused += self._split(batch)
            except ConnectorError as error:
                others = [*batches[:index], *batches[index + 1 :]]
                self._put_back(batch, not_arrived=isinstance(error, Stopped))
                self._put_back([message for other in others for message in other])
                raise
        return refused

    def _try_at_once(self, batches: Sequence[Sequence[OutboxMessage]]) -> list[RefusedMessage]:
        with ThreadPoolExecutor(self._lanes, "deliver") as lanes:
            flights = [(batch, lanes.submit(self._split, batch)) for batch in batches]
        refused: list[RefusedMessage] = []
        failure: ConnectorError | None = None
        for batch, flight in flights:
            try:
                refused += flight.result()
            except ConnectorError as error:
                failure = error
                self._put_back(batch, not_arrived=isinstance(error, Stopped))
        if failure:
            self._put_back([refusal.message for refusal in refused])
            raise failure
        return refused

    def _try_others(self, refused: Sequence[RefusedMessage]) -> bool:
        """Return whether others show the messages to be at fault; False if there are none to try.

        Raises with everything put back if they cannot be sent.
        """
        try:
            if others := self._outbox.sample(ELSEWHERE, self._chance(), self._clock.now()):
                missed = self._try([[message] for message in others])
                self._put_back([refusal.message for refusal in missed])
        except ConnectorError:
            self._put_back([refusal.message for refusal in refused])
            raise
        return bool(others)

    def _put_back(self, messages: Sequence[OutboxMessage], *, not_arrived: bool = True) -> None:
        sure = [message for message in messages if not_arrived and message.id not in self._unsure]
        unsure = [message for message in messages if not not_arrived or message.id in self._unsure]
        if sure:
            self._outbox.put_back(sure, self._clock.now(), not_arrived=True)
        if unsure:
            self._outbox.put_back(unsure, self._clock.now(), not_arrived=False)

    def _all_refused(self, answer: Refused) -> Unreachable:
        return Unreachable(
            f"Segment refuses every message: {answer.what}",
            means="No single message is at fault; all of them stay in the outbox.",
            todo="Check SEGMENT_HOST and any proxy or gateway before Segment.",
        )

    def _split(self, batch: Sequence[OutboxMessage], at: int = 0) -> list[RefusedMessage]:
        """Send a batch; if it is refused, halve it until the refused messages are found."""
        if self._clock.stopped:
            raise _stopped()
        try:
            self._send(batch)
            return []
        except Refused as error:
            at = at or next(self._ticks)
            if len(batch) == 1:
                return [RefusedMessage(batch[0], error, at)]
            middle = len(batch) // 2
            return self._split(batch[:middle], at) + self._split(batch[middle:], at)

    def _send(self, batch: Sequence[OutboxMessage]) -> None:
        """Send with retries, and confirm; raise if the batch is refused, or not confirmed in the end."""
        failures = 0
        while True:
            self._wait_for_pace(len(batch))
            began = next(self._ticks)
            try:
                self._segment.send([message.text for message in batch], self._segment_now(), retries=failures)
                break
            except Transient as error:
                self._unsure.update(message.id for message in batch)
                failures += 1
                if (error.after or 0.0) > LONGEST_RETRY:
                    # This does not stop the reading of Beamer.
                    raise _left_alone(error) from None
                wait = wait_before(failures, error, self._chance())
                if wait is None or self._clock.stopped:
                    raise Unreachable(f"Segment cannot be reached: {error.what}") from None
                log.info("segment_retry", error=error.what, seconds=round(wait, 1))
                self._clock.sleep(wait)
        self._outbox.confirm(batch, self._clock.now())
        with self._counting:
            self._taken = max(self._taken, began)
        self._report.deliveries.confirmed(len(batch), sum(message.possible_double for message in batch))
        log.debug("batch_confirmed", messages=len(batch))

    def _wait_for_pace(self, events: int) -> None:
        self._pace.wait(events, self._clock)
        if self._clock.stopped:
            raise _stopped()


def _stopped() -> Stopped:
    return Stopped("A signal stopped the run before these messages were sent.")


def _left_alone(error: Transient) -> Unreachable:
    """Return the error for a wait that is longer than a run waits for Segment."""
    return Unreachable(
        f"{error.what.rstrip('.')}, and asks for a pause of more than {LONGEST_RETRY:.0f} s.",
        means="Nothing is lost: unsent messages stay in the outbox, and a later run sends them.",
    )


class DeliveryWorker(Protocol):
    """Delivers messages while the run collects them."""

    @property
    def error(self) -> BaseException | None:
        """Return what ended the deliveries before everything was sent."""

    def go(self) -> None:
        """Deliver the full batches."""

    def finish(self) -> None:
        """Deliver the remaining messages, and stop."""


class InlineDelivery:
    """Delivers at once, in the collecting thread."""

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


class ThreadedDelivery:
    """Delivers in its own thread, which starts again whenever a batch is full."""

    def __init__(self, delivery: Delivery) -> None:
        self._inline = InlineDelivery(delivery)
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
            # Messages written during the last batches are not left behind.
            self._inline.finish()
        except BaseException as error:
            # The collecting thread raises it.
            self._inline.error = error

"""The Segment API: batches in, a warehouse without doubles out."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from connector.sandbox.batch import Message, Refused, flaw, messages_of, opened, write_key_of
from connector.sandbox.limiter import Limiter
from connector.sandbox.message import Answer, Request
from connector.sandbox.row import moment
from connector.sandbox.switches import Switches

TYPE = {"Content-Type": "application/json"}
SUCCESS = b'{"success": true}'


@dataclass(frozen=True)
class Landed:
    """A message in the warehouse of a source."""

    at: datetime
    write_key: str
    message: Message


@dataclass(frozen=True)
class Dropped:
    """A message that was answered with success and went nowhere."""

    at: datetime
    write_key: str
    message: Message
    reason: str


def refusal(status: int, code: str, text: str) -> Answer:
    body = {"success": False, "code": code, "message": text}
    return Answer(status, json.dumps(body).encode(), dict(TYPE))


class SegmentApi:
    """Takes batches for every write key and forgets a message id after a day."""

    def __init__(self, write_key: str, switches: Switches) -> None:
        self.write_keys = {write_key}
        self.switches = switches
        self.received: list[Message] = []
        self.landed: list[Landed] = []
        self.dropped: list[Dropped] = []
        self.doubles: list[Message] = []
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._limiter = Limiter()

    @property
    def messages(self) -> list[Message]:
        """What lands in a warehouse, in order."""
        return [landed.message for landed in self.landed]

    def answer(self, request: Request, now: float, tick: float | None) -> Answer:
        if not request.path.rstrip("/").endswith("/v1/batch"):
            return refusal(404, "not_found", "Not found.")
        if request.method != "POST":
            return refusal(405, "method_not_allowed", "This method is not allowed.")
        try:
            body = opened(request)
            write_key, batch = write_key_of(request, body), messages_of(body)
        except Refused as refused:
            return refusal(refused.status, refused.code, refused.text)
        limit = self.switches.segment_rate_limit
        if limit is not None and tick is not None and not self._limiter.take(tick, limit, len(batch)):
            answer = refusal(429, "rate_limited", "Too many events.")
            answer.headers["Retry-After"] = "1"
            return answer
        for message in batch:
            self._take(write_key, message, now)
        return Answer(200, SUCCESS, dict(TYPE))

    def _take(self, write_key: str, message: Message, now: float) -> None:
        self.received.append(message)
        reason = "unknown write key" if write_key not in self.write_keys else flaw(message)
        if reason:
            self.dropped.append(Dropped(moment(now), write_key, message, reason))
            return
        horizon = now - self.switches.segment_memory.total_seconds()
        while self._seen and next(iter(self._seen.values())) <= horizon:
            self._seen.popitem(last=False)
        message_id = str(message.get("messageId") or uuid4())
        if message_id in self._seen:
            self.doubles.append(message)
            return
        self._seen[message_id] = now
        self.landed.append(Landed(moment(now), write_key, message))

"""The API of Segment: accepts batches and keeps their messages."""

import base64
import json
import zlib
from binascii import Error as NotBase64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from connector.sandbox.public_api import PREFIXES, PublicApi, Source
from connector.sandbox.rows import moment
from connector.sandbox.server import Answer, RateLimiter, Request

Message = dict[str, Any]
MESSAGE_BYTES = 32 * 1024
BATCH_BYTES = 500 * 1024
BATCH_MESSAGES = 2_500
MEMORY_SECONDS = 24 * 3_600


class Refused(Exception):
    """Raised for a refused request, with the status and the code of the answer."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


def body_of(request: Request) -> Message:
    """Return the body as an object, decompressed if it is compressed."""
    data = request.body
    try:
        if request.headers.get("content-encoding", "").lower() == "gzip":
            data = zlib.decompress(data, 31)
        if len(data) > BATCH_BYTES:
            raise Refused(400, "invalid_request", "The batch is larger than 500 KB.")
        body = json.loads(data)
    except (zlib.error, ValueError):
        raise Refused(400, "invalid_request", "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request", "The body is not an object.")
    return body


def write_key_of(request: Request, body: Message) -> str:
    """Return the write key from the header, or else from the body."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (NotBase64, ValueError):
            raise Refused(401, "unauthorized", "The authorization header is not valid.") from None
    if not isinstance(body.get("writeKey"), str) or not body["writeKey"]:
        raise Refused(401, "unauthorized", "No write key was provided.")
    return str(body["writeKey"])


def messages_of(body: Message) -> list[Message]:
    """Return the messages; refuse them if they exceed Segment's limits."""
    batch = body.get("batch")
    if not isinstance(batch, list) or not all(isinstance(message, dict) for message in batch):
        raise Refused(400, "invalid_request", "The batch is not a list of objects.")
    if len(batch) > BATCH_MESSAGES:
        raise Refused(400, "invalid_request", "The batch has more than 2,500 messages.")
    for message in batch:
        if len(json.dumps(message)) > MESSAGE_BYTES:
            raise Refused(400, "invalid_request", "A message is larger than 32 KB.")
    return batch


def drop_reason(message: Message) -> str:
    """Return why Segment drops a message although it answers with success; empty if it does not."""
    if not message.get("userId") and not message.get("anonymousId"):
        return "no userId or anonymousId"
    if message.get("type") == "track" and not message.get("event"):
        return "no event name"
    if message.get("type") not in ("track", "identify", "page", "screen", "group", "alias"):
        return "unknown type"
    return "messageId too long" if len(str(message.get("messageId") or "")) > 100 else ""


JSON_TYPE = {"Content-Type": "application/json"}
SUCCESS = b'{"success": true}'


@dataclass(frozen=True)
class Landed:
    """A message that is stored for the source of its write key."""

    at: datetime
    write_key: str
    message: Message


@dataclass(frozen=True)
class Dropped:
    """A message that was answered with success and is not stored."""

    at: datetime
    write_key: str
    message: Message
    reason: str


def error_answer(status: int, code: str, text: str) -> Answer:
    """Return an error as Segment writes it."""
    body = {"success": False, "code": code, "message": text}
    return Answer(status, json.dumps(body).encode(), dict(JSON_TYPE))


class SegmentApi:
    """Accepts batches for every write key; a repeated message id counts as a duplicate for one day.

    `loses` decides which messages are lost although the answer to them was a success.
    """

    def __init__(self, write_key: str) -> None:
        self.sources = [Source("sandbox-source", {write_key})]
        self.public_api = PublicApi(self.sources, "sandbox-token")
        self.loses: Callable[[Message], bool] = lambda _: False
        self.lost: list[Message] = []
        # Events per second; None turns the limit off.
        self.rate_limit: int | None = 1000
        self.received: list[Message] = []
        self.landed: list[Landed] = []
        self.dropped: list[Dropped] = []
        self.duplicates: list[Message] = []
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._limiter = RateLimiter()

    @property
    def write_keys(self) -> set[str]:
        """Return the write keys of the first source."""
        return self.sources[0].write_keys

    @write_keys.setter
    def write_keys(self, keys: set[str]) -> None:
        self.sources[0].write_keys = keys

    @property
    def messages(self) -> list[Message]:
        """Return the stored messages, in the order in which they arrived."""
        return [landed.message for landed in self.landed]

    def answer(self, request: Request, now: float, limiter_time: float | None) -> Answer:
        """Return the answer to a request, and store its messages if it is accepted."""
        if request.path.startswith(PREFIXES):
            return self.public_api.answer(request, now)
        if not request.path.rstrip("/").endswith("/v1/batch"):
            return error_answer(404, "not_found", "Not found.")
        if request.method != "POST":
            return error_answer(405, "method_not_allowed", "This method is not allowed.")
        try:
            body = body_of(request)
            write_key, batch = write_key_of(request, body), messages_of(body)
        except Refused as refused:
            return error_answer(refused.status, refused.code, refused.text)
        if not self._is_allowed(len(batch), limiter_time):
            answer = error_answer(429, "rate_limited", "Too many events.")
            answer.headers["Retry-After"] = "1"
            return answer
        for message in batch:
            self._store(write_key, message, now)
        return Answer(200, SUCCESS, dict(JSON_TYPE))

    def _is_allowed(self, events: int, limiter_time: float | None) -> bool:
        if self.rate_limit is None or limiter_time is None:
            return True
        return self._limiter.take(limiter_time, self.rate_limit, events)

    def _store(self, write_key: str, message: Message, now: float) -> None:
        self.received.append(message)
        source = next((source for source in self.sources if write_key in source.write_keys), None)
        reason = self._why_dropped(source, message, now)
        if reason:
            self.dropped.append(Dropped(moment(now), write_key, message, reason))
            return
        if self.loses(message):
            self.lost.append(message)
            return
        while self._seen and next(iter(self._seen.values())) <= now - MEMORY_SECONDS:
            self._seen.popitem(last=False)
        message_id = str(message.get("messageId") or uuid4())
        if message_id in self._seen:
            self.duplicates.append(message)
            return
        self._seen[message_id] = now
        if source:
            self.public_api.count(now, source, str(message.get("event") or ""), "received")
        self.landed.append(Landed(moment(now), write_key, message))

    def _why_dropped(self, source: Source | None, message: Message, now: float) -> str:
        """Return why a message is not stored, and count it as Segment does."""
        event = str(message.get("event") or "")
        if source is None:
            return "unknown write key"
        if not source.enabled:
            return "disabled source"
        if reason := drop_reason(message):
            self.public_api.count(now, source, event, "failed")
            return reason
        if source.blocks(event):
            self.public_api.count(now, source, event, "filtered")
            return "blocked"
        return ""

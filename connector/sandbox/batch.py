"""A batch as it comes in: unpacked, measured, judged."""

import base64
import json
import zlib
from binascii import Error as NotBase64
from typing import Any

from connector.sandbox.message import Request

Message = dict[str, Any]
MESSAGE_BYTES = 32 * 1024
BATCH_BYTES = 500 * 1024
BATCH_MESSAGES = 2_500


class Refused(Exception):
    """A request that is not taken."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


def opened(request: Request) -> Message:
    """The body as an object, unpacked."""
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
    """The write key, from the header or else the body."""
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
    """The messages, if they keep to the limits."""
    batch = body.get("batch")
    if not isinstance(batch, list) or not all(isinstance(message, dict) for message in batch):
        raise Refused(400, "invalid_request", "The batch is not a list of objects.")
    if len(batch) > BATCH_MESSAGES:
        raise Refused(400, "invalid_request", "The batch has more than 2,500 messages.")
    for message in batch:
        if len(json.dumps(message)) > MESSAGE_BYTES:
            raise Refused(400, "invalid_request", "A message is larger than 32 KB.")
    return batch


def flaw(message: Message) -> str:
    """Why Segment drops a message without a word."""
    if not message.get("userId") and not message.get("anonymousId"):
        return "no userId or anonymousId"
    if message.get("type") == "track" and not message.get("event"):
        return "no event name"
    if message.get("type") not in ("track", "identify", "page", "screen", "group", "alias"):
        return "unknown type"
    return "messageId too long" if len(str(message.get("messageId") or "")) > 100 else ""

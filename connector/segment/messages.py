"""Messages in Segment's form, and batches of them within its limits."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from connector.errors import ConnectorError, Exit
from connector.segment.client import builder
from connector.segment.events import FREE_TEXT, TRUNCATED
from connector.segment.shaping import Shaped

MOST_OF_ONE = 32_000
# What the library adds to the arguments: its name and version, "type", longer key names.
ADDED = 300
# In bytes: of two long texts, this much is left of the one that is shortened first.
SPARED = 1_000

_AS_SENT = json.JSONEncoder(default=str).encode
# As the library will write it, so that its length is its size.
_FROZEN = json.JSONEncoder(allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Message:
    """`size` is what the message takes in a batch as the library sends it."""

    message_id: str
    event: str
    text: str
    size: int


class Unshapeable(ConnectorError):
    """A row that cannot become a message that Segment accepts."""

    code = "BS-422"
    exit = Exit.QUARANTINED
    default_means = "The row is kept in quarantine; other rows are not affected."

    def __init__(self, reason: str) -> None:
        super().__init__(f"A row cannot be sent as a Segment message: {reason}.")
        self.reason = reason


def build(shaped: Shaped) -> Message:
    """Build and freeze one message; raise `Unshapeable` if it cannot be made to fit."""
    # Nearly all fit; measuring them first would take as long as building them.
    text = _frozen(shaped.body)
    if (text is None or len(text) > MOST_OF_ONE) and "traits" not in shaped.body:
        text = _frozen(_fitted(shaped.body))
    if text is None:
        # Raised outside `_frozen`: the library's error holds the whole message.
        raise Unshapeable("the Segment library does not accept it")
    return Message(shaped.message_id, shaped.event, text, len(text))


def _frozen(body: dict[str, Any]) -> str | None:
    """Return the text of a message, or None if the library does not accept it."""
    try:
        # The library changes the context that it receives.
        build_one = builder("identify" if "traits" in body else "track")
        message = build_one(**body | {"context": dict(body["context"])})[1]
    except (AssertionError, RuntimeError, TypeError, ValueError):
        return None
    return _FROZEN(message)


def _size(value: Any) -> int:
    return len(_AS_SENT(value))


def _fitted(body: dict[str, Any]) -> dict[str, Any]:
    if _excess(body) <= 0:
        return body
    texts = {name: text for name, text in body["properties"].items() if name in FREE_TEXT and text}
    if _excess(_shortened(body, dict.fromkeys(texts, ""))) > 0:
        # Shorter texts are not enough; without the traits the texts may even stay complete.
        body = _without_traits(body)
    while (excess := _excess(shorter := _shortened(body, texts) if texts else body)) > 0:
        longest = max(texts, key=lambda name: _size(texts[name]), default=None)
        if longest is None or not texts[longest]:
            raise Unshapeable("it exceeds Segment's 32 KB even without its texts and traits")
        texts[longest] = shortened_to(texts[longest], _room(texts, longest, excess))
    return shorter if _excess(body) > 0 else body


def _room(texts: dict[str, str], longest: str, excess: int) -> int:
    """Return the bytes left for the longest text: at least some, if another text can be shortened, too."""
    sizes = {name: _size(text) - 2 for name, text in texts.items()}
    spared = sum(size > SPARED for size in sizes.values()) > 1
    return max(sizes[longest] - excess, SPARED if spared else 0)


def _excess(body: dict[str, Any]) -> int:
    return _size(body) + ADDED - MOST_OF_ONE


def _shortened(body: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    return body | {"properties": body["properties"] | texts | {TRUNCATED.name: True}}


def _without_traits(body: dict[str, Any]) -> dict[str, Any]:
    if "traits" not in body["context"]:
        return body
    context = {name: value for name, value in body["context"].items() if name != "traits"}
    return _shortened(body, {}) | {"context": context}


def shortened_to(text: str, room: int) -> str:
    """Return the longest beginning of a text that has at most `room` bytes as escaped JSON."""
    low, high = 0, max(0, min(len(text), room))
    while low < high:
        middle = (low + high + 1) // 2
        if _size(text[:middle]) - 2 <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]


T = TypeVar("T")

MOST_MESSAGES = 100
# In bytes, around the messages: the write key, `sentAt` and the names.
ENVELOPE = 1_000
MOST_BYTES = 500_000 - ENVELOPE
SEPARATOR = len(", ")


def into_batches(
    messages: Sequence[T], size: Callable[[T], int], most: int = MOST_MESSAGES, limit: int = MOST_BYTES
) -> list[list[T]]:
    """Cut into batches in order, each of at most `most` messages and `limit` bytes with its separators.

    A message over the limit is a batch by itself, so that Segment's answer is about it alone.
    """
    batches: list[list[T]] = []
    used = 0
    for message in messages:
        needed = size(message)
        if not batches or len(batches[-1]) >= most or used + SEPARATOR + needed > limit:
            batches.append([message])
            used = needed
        else:
            batches[-1].append(message)
            used += SEPARATOR + needed
    return batches

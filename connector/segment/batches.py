"""Messages cut into batches by count and by bytes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST = 100
# Around the messages go the write key, `sentAt` and the names.
ENVELOPE = 1_000
LIMIT = 500_000 - ENVELOPE
SEPARATOR = len(", ")


def cut(items: Sequence[T], size: Callable[[T], int], most: int = MOST, limit: int = LIMIT) -> list[list[T]]:
    """Cut into batches in order, each of at most `most` items and `limit` bytes with its separators.

    An item that alone is over the limit goes alone: Segment's answer to it is then about it.
    """
    batches: list[list[T]] = []
    used = 0
    for item in items:
        needed = size(item)
        if not batches or len(batches[-1]) >= most or used + SEPARATOR + needed > limit:
            batches.append([item])
            used = needed
        else:
            batches[-1].append(item)
            used += SEPARATOR + needed
    return batches

"""Counters of a child list, kept as their parts joined by commas."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from connector.beamer.rows import Unreadable, integer

UNKNOWN = "?"


def read(raw: Mapping[str, Any], names: Sequence[str]) -> str:
    """Read the counters off a parent's raw row; one that is missing or no number stays unknown."""
    numbers = (_number(raw.get(name)) for name in names)
    return ",".join(UNKNOWN if number is None else str(number) for number in numbers)


def counted(body: Any) -> int | None:
    """Return how many rows the answer to a `/count` tells of, read as leniently; None if it is no count.

    Some of Beamer's clients take a bare number, too.
    """
    return _number(body.get("count") if isinstance(body, dict) else body)


def _number(value: Any) -> int | None:
    try:
        number = None if value is None else integer(value)
    except Unreadable:
        return None
    return None if number is None or number < 0 else number


@lru_cache(maxsize=65_536)
def total(counter: str) -> int:
    """Return the sum of the parts that are known."""
    return sum(_numbers(counter))


def moved(counter: str, read_counter: str | None) -> bool:
    """Return whether a list may hold something new. Any move is one, downwards too; an unknown one always."""
    if UNKNOWN in counter:
        return True
    if read_counter is None:
        return total(counter) > 0
    return counter != read_counter


def risen(counter: str, read_counter: str) -> int:
    """Return how many new rows the counters show at the least; a part that was unknown shows none."""
    if UNKNOWN not in counter and UNKNOWN not in read_counter:
        pairs = zip(_numbers(counter), _numbers(read_counter), strict=False)
        return sum(max(0, now - before) for now, before in pairs)
    parts = zip(counter.split(","), read_counter.split(","), strict=False)
    return sum(max(0, int(now) - int(before)) for now, before in parts if UNKNOWN not in (now, before))


def lowered(read_counter: str, counter: str) -> str:
    """Return the counter as it was at the last pass, no higher in any part than it is now.

    A deletion must not make room in which a row that comes next cannot be seen.
    """
    if UNKNOWN in read_counter or UNKNOWN in counter:
        return read_counter
    return ",".join(str(min(pair)) for pair in zip(_numbers(read_counter), _numbers(counter), strict=False))


def waiting(counter: str, read_counter: str, surplus: int) -> int:
    """Return how many new rows wait at the least, less those that came before their counter moved."""
    return max(0, risen(counter, read_counter) - max(0, surplus))


@lru_cache(maxsize=65_536)
def _numbers(counter: str) -> tuple[int, ...]:
    return tuple(0 if part == UNKNOWN else int(part) for part in counter.split(","))

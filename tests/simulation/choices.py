"""What a life chooses, each choice under a name: drawn from the life's seed, or given by a story.

A name says where in the outer course of events a choice belongs: "sync 3", "sync 3, run 1 dies", "sync 3,
run 1, /posts/1003/comments 2". Each has a usual value, that of a life in which nothing goes wrong; what is
not usual is recorded. With a record in the place of the seed, no choice moves another one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Choices:
    """`made`: all that are not usual. With `given`, nothing is drawn, and what is not given is usual."""

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self._given = given
        self.made: dict[str, Any] = {}

    def choose(self, name: str, usual: T, draw: Callable[[], T]) -> T:
        """Return what is chosen under a name; no two choices of a life have the same one."""
        value = draw() if self._given is None else self._given.get(name, usual)
        if value != usual:
            assert name not in self.made, name
            self.made[name] = value
        return value

    def numbers(self, where: str, more: Callable[[], bool]) -> Iterator[int]:
        """Number the events at a place: as long as more are drawn, or those of which something is given."""
        if self._given is not None:
            named = re.compile(rf"\w+ (\d+) {where}")
            yield from sorted({int(match[1]) for name in self._given if (match := named.fullmatch(name))})
            return
        number = 0
        while more():
            yield (number := number + 1)

    def settle(self, name: str, value: Any) -> None:
        """Record what a choice came to, in words that hold for other code, too."""
        if name in self.made:
            self.made[name] = value

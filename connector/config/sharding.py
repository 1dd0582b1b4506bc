"""Connections spread over processes: each name belongs to one shard, on every machine and for ever."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count`, counted from 0."""

    index: int
    count: int

    def holds(self, name: str) -> bool:
        return self.count == 1 or shard_of(name, self.count) == self.index


WHOLE = Shard(0, 1)


def shard_of(name: str, count: int) -> int:
    """The shard of a connection; Python's own hash differs from process to process."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count


def parsed(text: str) -> Shard:
    """`INDEX/COUNT`; raises ValueError with what is wrong."""
    index, slash, count = text.strip().partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()) or len(text) > 20:
        raise ValueError(f"{text!r} is not INDEX/COUNT, such as 0/5.")
    found = Shard(int(index), int(count))
    if found.index >= found.count:
        raise ValueError(f"There is no shard {found.index} of {found.count}: they count from 0.")
    return found

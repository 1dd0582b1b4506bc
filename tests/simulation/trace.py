"""What happened, in order: the same seed gives the same digest, in any process."""

import hashlib
from collections.abc import Callable


class Trace:
    """Takes lines; `shown` gets them as well, where a person reads along."""

    def __init__(self, shown: Callable[[str], None] | None = None) -> None:
        self._digest = hashlib.sha256()
        self._shown = shown
        self.lines = 0

    def __call__(self, line: str) -> None:
        self.lines += 1
        self._digest.update(line.encode() + b"\n")
        if self._shown:
            self._shown(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()[:16]

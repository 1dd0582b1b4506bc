"""At most so many in any one second."""

from collections import deque


class Limiter:
    """A sliding window; what is refused does not count."""

    def __init__(self) -> None:
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0

    def take(self, at: float, limit: int, count: int = 1) -> bool:
        """Whether `count` more fit into the second that ends now; one alone always fits."""
        while self._taken and (self._taken[0][0] <= at - 1 or self._taken[0][0] > at):
            self._sum -= self._taken.popleft()[1]
        if self._taken and self._sum + count > limit:
            return False
        self._taken.append((at, count))
        self._sum += count
        return True

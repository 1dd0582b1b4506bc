"""A counter of a parent's children that can be asked how it stood a while ago."""

from bisect import bisect_right, insort

from connector.sandbox.row import Row


class Tally:
    """Counts by the moments at which children came and went."""

    def __init__(self) -> None:
        self._came: list[float] = []
        self._went: list[float] = []

    def came(self, at: float) -> None:
        insort(self._came, at)

    def went(self, at: float) -> None:
        insort(self._went, at)

    def at(self, moment: float, *, ignore_deletions: bool = False) -> int:
        """The count as it stood at a moment."""
        gone = 0 if ignore_deletions else bisect_right(self._went, moment)
        return bisect_right(self._came, moment) - gone


def counters_of(row: Row) -> tuple[str, ...]:
    """The counters of its parent that a row moves."""
    if row.stream == "reactions":
        return (f"{row.given.get('reaction', 'positive')}Reactions",)
    return {
        "comments": ("feedbacks",),
        "feature_request_comments": ("commentsCount",),
        "feature_request_votes": ("votesCount",),
    }.get(row.stream, ())

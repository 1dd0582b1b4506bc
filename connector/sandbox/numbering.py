"""Ids: rising in the order of appearance, apart for rows added by hand."""

from collections import Counter

from connector.sandbox.row import Row

FIRST_ID = {
    "posts": 1_000,
    "comments": 20_000,
    "reactions": 300_000,
    "feature_requests": 5_000,
    "feature_request_comments": 70_000,
    "feature_request_votes": 900_000,
    "nps": 0,
}
BY_HAND = 500_000_000


class Numbers:
    """Hands out ids."""

    def __init__(self, seed: int) -> None:
        self._prefix = f"{seed % 65536:04x}"
        self._given: Counter[tuple[str, int]] = Counter()

    def give(self, row: Row) -> None:
        self._give(row, FIRST_ID[row.stream])

    def give_by_hand(self, row: Row) -> None:
        self._give(row, BY_HAND)

    def next_by_hand(self) -> int:
        """A place among rows of the same date behind all that life has made."""
        return BY_HAND + self._given.total()

    def _give(self, row: Row, base: int) -> None:
        self._given[row.stream, base] += 1
        number = base + self._given[row.stream, base]
        row.id = f"{row.appears_s:08x}{self._prefix}{number:012x}" if row.stream == "nps" else str(number)

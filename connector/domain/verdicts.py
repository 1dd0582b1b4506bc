"""Verdicts: what was decided about a row, as it is stored."""

from enum import IntEnum


class Verdict(IntEnum):
    """EVENT: its event went into the outbox. FORGOTTEN: of a person who is not to come back. MOVED: it was
    judged before under another parent.

    The others were held back by a setting, and by which.
    """

    EVENT = 1
    NO_USER = 2
    TEAM = 3
    STREAM_OFF = 4
    QUARANTINED = 5
    FORGOTTEN = 6
    MOVED = 7

    @property
    def held(self) -> bool:
        return self in (Verdict.NO_USER, Verdict.TEAM, Verdict.STREAM_OFF)

    @property
    def revivable(self) -> bool:
        """Whether a backfill under other settings may send it after all."""
        return self.held or self is Verdict.QUARANTINED

    @property
    def label(self) -> str:
        return self.name.lower()

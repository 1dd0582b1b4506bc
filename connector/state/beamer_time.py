"""What time it is at Beamer: told by the dates of its answers, and reckoned on from there. Data in, data out.

Two clocks may be wrong: this machine's, which somebody sets, and the one that an answer's date is by, which a
proxy changes or a cache keeps. Neither is believed alone when it jumps.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# Two right clocks are no further apart than this, an answer's way included.
NEAR = timedelta(minutes=2)
# So long after an answer the time is still known, whatever this machine's clock says meanwhile.
FRESH = timedelta(hours=1)
# Two clocks further apart than this are not both working.
FAR = timedelta(days=1)
# So many answers in a row say the same before it is believed against this machine's clock.
ANSWERS = 3
# No clock that is right shows an earlier date, and no two clocks that work are further apart.
EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
FURTHEST = timedelta(days=366)
NONE = timedelta(0)


@dataclass(slots=True)
class BeamerTime:
    """Beamer's clock at an answer, and this machine's at the same moment; None before the first one.

    `ahead`: how far Beamer's clock is ahead of this machine's, as it is believed to be. `doubted` is what
    the last answer showed of that where it was not believed, and so many `times` in a row. `answered`:
    whether an answer to this process has told a date that can be one.
    """

    beamer: datetime | None = None
    local: datetime | None = None
    doubted: timedelta | None = None
    times: int = 0
    ahead: timedelta = NONE
    answered: bool = False

    def at(self, now: datetime) -> datetime:
        """Beamer's time when this machine's clock shows `now`: the earliest that may be.

        Either this machine's clock has run on since the last answer, or it was set right meanwhile.
        """
        if self.beamer is None or self.local is None:
            # While nothing was believed yet, of two clocks that differ a little the one that is behind.
            offset = self.doubted or NONE
            return now + offset if -FAR <= offset < NONE else now
        run_on = [self.beamer + (now - self.local)] if self._ran_on(now) else []
        set_right = [now] if now >= self.beamer else []
        return min(run_on + set_right, default=self.beamer)

    @property
    def furthest(self) -> timedelta:
        """How far ahead of this machine's clock it may be at Beamer, by whatever the last answer showed."""
        return max(NONE, self.ahead, self.doubted or NONE)

    @property
    def earliest(self) -> timedelta:
        """How far behind this machine's clock it may be at Beamer, by whatever the last answer showed."""
        return min(NONE, self.ahead, self.doubted or NONE)

    def set_back(self, now: datetime) -> bool:
        """Whether this machine's clock shows what was over before the last answer: it is wrong for sure."""
        return self.beamer is not None and now < self.beamer - FRESH and not self._ran_on(now)

    def _ran_on(self, now: datetime) -> bool:
        return self.local is not None and now >= self.local

    def sure(self, now: datetime) -> bool:
        """Whether the last answer is so fresh that no clock that was set can matter."""
        return self.beamer is None or self.at(now) - self.beamer <= FRESH

    def note(self, date: datetime | None, now: datetime) -> bool:
        """Take in an answer's date; whether it tells the time."""
        if date is None or not _possible(date, now):
            if self.sure(now):
                return False
            # Nothing speaks against this machine's clock.
            self.beamer, self.local = self.at(now), now
            return True
        offset, self.answered = date - now, True
        if self._believes(date, now):
            self.beamer, self.local, self.ahead, self.doubted, self.times = date, now, offset, None, 0
            return True
        again = self.doubted is not None and abs(offset - self.doubted) <= NEAR
        self.doubted, self.times = offset, self.times + 1 if again else 1
        if self.times >= ANSWERS:
            self.beamer, self.local, self.ahead, self.doubted, self.times = date, now, offset, None, 0
        elif self.beamer and self.beamer <= date <= self.at(now):
            # Less time has gone by than this machine's clock says: that much is safe to believe.
            self.beamer, self.local = date, now
        return self.local == now

    def _believes(self, date: datetime, now: datetime) -> bool:
        """What this machine's clock says, what was said before, or what nothing speaks against."""
        if now < EARLIEST:
            return True
        if self.beamer and self.set_back(now) and date >= self.beamer:
            return True
        offset = date - now
        known = [NONE, self.ahead]
        if self.beamer and self.local:
            known.append(self.beamer - self.local)
        return any(abs(offset - each) <= NEAR for each in known)


def _possible(date: datetime, now: datetime) -> bool:
    return date >= EARLIEST and (now < EARLIEST or abs(date - now) <= FURTHEST)

"""Beamer's time: by the dates of its answers, and this machine's clock since the last one.

Two clocks may be wrong: this machine's, which people set, and that of an answer's date, which a proxy may
change or a cache keep. Neither is believed alone when it jumps.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# Two right clocks differ by less, the time of an answer included.
NEAR = timedelta(minutes=2)
# For so long after an answer the time is known, whatever this machine's clock shows.
FRESH = timedelta(hours=1)
# Two clocks that differ by more are not both right.
FAR = timedelta(days=1)
# This number of answers in a row must agree before they are believed against this machine's clock.
ANSWERS = 3
# No right clock shows an earlier date, and no two working clocks differ by more.
EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
FURTHEST = timedelta(days=366)
NONE = timedelta(0)


@dataclass(slots=True)
class BeamerTime:
    """Beamer's clock at an answer, and this machine's at the same moment; None before the first one.

    `ahead`: how far Beamer's clock is believed to be ahead of this machine's. `doubted`: the same by the
    last answer if that was not believed, so many `times` in a row. `answered`: whether an answer to this
    process had a possible date.
    """

    beamer: datetime | None = None
    local: datetime | None = None
    doubted: timedelta | None = None
    times: int = 0
    ahead: timedelta = NONE
    answered: bool = False

    def at(self, now: datetime) -> datetime:
        """Return Beamer's earliest possible time when this machine's clock shows `now`.

        Either this machine's clock has run since the last answer, or it was corrected meanwhile.
        """
        if self.beamer is None or self.local is None:
            # Nothing was believed yet: of two slightly different clocks, take the one that is behind.
            offset = self.doubted or NONE
            return now + offset if -FAR <= offset < NONE else now
        run_on = [self.beamer + (now - self.local)] if self._ran_on(now) else []
        corrected = [now] if now >= self.beamer else []
        return min(run_on + corrected, default=self.beamer)

    @property
    def furthest(self) -> timedelta:
        """Return how far ahead of this machine's clock Beamer's may be, by the last answer."""
        return max(NONE, self.ahead, self.doubted or NONE)

    @property
    def earliest(self) -> timedelta:
        """Return how far behind this machine's clock Beamer's may be, by the last answer (negative)."""
        return min(NONE, self.ahead, self.doubted or NONE)

    def set_back(self, now: datetime) -> bool:
        """Return whether this machine's clock is certainly wrong: well before the last answer."""
        return self.beamer is not None and now < self.beamer - FRESH and not self._ran_on(now)

    def _ran_on(self, now: datetime) -> bool:
        return self.local is not None and now >= self.local

    def sure(self, now: datetime) -> bool:
        """Return whether the last answer is so recent that a changed clock does not matter."""
        return self.beamer is None or self.at(now) - self.beamer <= FRESH

    def note(self, date: datetime | None, now: datetime) -> bool:
        """Note an answer's date; return whether it shows the time."""
        if date is None or not _possible(date, now):
            if self.sure(now):
                return False
            # Nothing contradicts this machine's clock.
            self.beamer, self.local = self.at(now), now
            return True
        offset, self.answered = date - now, True
        if self._believes(date, now):
            self._believe(date, now)
            return True
        again = self.doubted is not None and abs(offset - self.doubted) <= NEAR
        self.doubted, self.times = offset, self.times + 1 if again else 1
        if self.times >= ANSWERS:
            self._believe(date, now)
        elif self.beamer and self.beamer <= date <= self.at(now):
            # Less time has passed than by this machine's clock: the earlier date is safe to believe.
            self.beamer, self.local = date, now
        return self.local == now

    def _believe(self, date: datetime, now: datetime) -> None:
        self.beamer, self.local, self.ahead, self.doubted, self.times = date, now, date - now, None, 0

    def _believes(self, date: datetime, now: datetime) -> bool:
        """Return whether a date agrees with this machine's clock, if possible, or an earlier answer."""
        if now < EARLIEST:
            return True
        if self.beamer and self.set_back(now) and date >= self.beamer:
            return True
        offset = date - now
        known = [NONE, self.ahead]
        if self.beamer and self.local:
            known.append(self.beamer - self.local)
        return any(abs(offset - ahead) <= NEAR for ahead in known)


def _possible(date: datetime, now: datetime) -> bool:
    return date >= EARLIEST and (now < EARLIEST or abs(date - now) <= FURTHEST)

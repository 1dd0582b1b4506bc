"""What becomes of the place where the database is: power cuts, full disks, failovers, backups.

A file's bytes, SQLite's own limits and a real server do what a disk and a failover do; the seed says when.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from connector.domain.period import month_at
from connector.errors import Exit
from connector.state.ledger import Ledger
from tests.simulation.crashes import LOG, Files
from tests.simulation.process import ACCOUNT, Ending, Fate, Process
from tests.simulation.snapshot import Snapshot, taken
from tests.simulation.wrong import Wrong

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

POWER_CUT, FULL_DISK, READ_ONLY = "power cut", "full disk", "read-only"
SESSIONS_END, FAILOVER = "sessions end", "failover"
WORDS = {FULL_DISK: ("is full",), READ_ONLY: ("readonly", "read-only")}
LOST = "has lost what this run stored last"
ON_SQLITE = (POWER_CUT, POWER_CUT, FULL_DISK, READ_ONLY)
ON_SERVER = (SESSIONS_END, FAILOVER, FAILOVER, READ_ONLY)
# What a disk writes as a whole or not at all.
SECTOR = 512
# How far a replica may be behind.
BEHIND = timedelta(seconds=1)
MOST_COPIES = 20


@dataclass(slots=True)
class Trouble:
    """What the storage does to one process, and at which of its moments.

    A failover goes back to a copy that is `left` commits old when it comes.
    """

    kind: str
    fate: Fate
    left: int = 0
    copy: Any = None
    copied_at: datetime | None = None
    copies: int = 0


@dataclass(slots=True)
class PowerCut:
    """What is on the disk afterwards; what was committed, without the transaction under way and with it."""

    files: Files
    without: bytes
    complete: bytes


@dataclass
class StorageFaults:
    """One for all processes of a life."""

    universe: "Universe"
    calm: bool = False
    uncharged: int = 0
    """Requests that a database which went back has not charged; and those of them that nobody entered."""
    unentered: int = 0
    entered: tuple[datetime, int] | None = None
    """The first day of Beamer's month, where somebody entered what was used since; `unentered` then."""
    back_at: datetime | None = None
    """When the database last went back to what it had been."""
    lost: Snapshot | None = None
    """What it held then, where that was in the middle of a run."""

    def __post_init__(self) -> None:
        self._plan = self.universe.plan.storage
        self._rng = Random(f"{self.universe.plan.seed}/storage faults")
        self._cut: PowerCut | None = None
        self._only_reads = False
        self._persists = ""
        self._backup: Any = None
        self._behind = set[str]()
        self._ended: list[tuple[Process, Ending]] = []

    def quiet(self) -> None:
        """From now on everything goes well."""
        self.calm = True

    def _state(self, state: str) -> None:
        self.universe.census.states[state] += 1

    # --- what a run meets ---

    def trouble(self) -> Trouble | None:
        """Draw what the next process meets. A full disk is still full for the next one now and then."""
        if self.calm or not self._plan.faults:
            return None
        kind, self._persists = self._persists, ""
        if kind:
            return Trouble(kind, Fate(None, 1))
        if self._rng.random() >= self._plan.faults:
            return None
        kind = self._rng.choice(ON_SQLITE if self.universe.disk.is_sqlite else ON_SERVER)
        if kind == FAILOVER:
            return Trouble(kind, Fate("after commit", self._rng.randint(1, 30)), self._rng.randint(1, 4))
        if self._rng.random() < 0.6:
            return Trouble(kind, Fate("before commit", self._rng.choice((1, 2, 3, 5, 9, 20))))
        return Trouble(kind, Fate(None, self._rng.randint(1, 80)))

    def moment(self, process: Process, trouble: Trouble, kind: str) -> None:
        """A process with a trouble is at a moment: now it may come."""
        if trouble.kind == FAILOVER:
            self._towards_failover(process, trouble, kind)
        elif trouble.fate.strikes(kind):
            self._strikes(process, trouble, kind)

    def _strikes(self, process: Process, trouble: Trouble, kind: str) -> None:
        self.universe.network.faults += 1
        self.universe.census.sums[trouble.kind] += 1
        self.universe.tell(f"{process.name} {trouble.kind} {kind}")
        if trouble.kind == POWER_CUT:
            self._power_cut(process, kind)
        elif trouble.kind == FULL_DISK:
            self._fill(process)
        elif trouble.kind == READ_ONLY:
            self._only_reads = True
            self.universe.disk.only_read(True)
        else:
            self._state(f"sessions are ended {'in' if process.in_transaction else 'outside'} a transaction")
            self.universe.disk.end_sessions()
        if trouble.kind in (FULL_DISK, READ_ONLY) and self._rng.random() < 0.5:
            self._persists = trouble.kind

    def ended(self, process: Process, ending: Ending) -> list[tuple[Process, Ending]]:
        """A process has ended; return those whose database may be looked at now.

        Of a machine without power that is when all have ended, and the power is back.
        """
        trouble, disk = process.trouble, self.universe.disk
        if trouble and any(words in ending.said for words in WORDS.get(trouble.kind, ())):
            if ending.exit != Exit.UNREACHABLE:
                raise Wrong(f"a run ends with {ending.exit}: {ending.said}")
            why = "disk is full" if trouble.kind == FULL_DISK else "database may only be read"
            self._state(f"a run ends, as its {why}")
        if LOST in ending.said:
            if process.name not in self._behind:
                raise Wrong(f"{process.name} misses what it stored, and nothing was lost")
            self._state("a run notices that its database has gone back")
        if not disk.in_use and self._only_reads:
            self._only_reads = False
            disk.only_read(False)
        self._ended.append((process, ending))
        if self._cut and disk.in_use:
            return []
        if self._cut:
            self._power_is_back(self._cut)
        self._cut, ended, self._ended = None, self._ended, []
        return ended

    # --- a file ---

    def _power_cut(self, process: Process, kind: str) -> None:
        """All processes of the machine die; the disk has what was synced, and perhaps some of the rest."""
        disk = self.universe.disk
        before, without = disk.files(), disk.content()
        if kind == "before commit":
            process.slot.commit()
        after = disk.files()
        files = torn(before, after, self._rng) if process.slot.is_synced else {**before, LOG: b""}
        self._cut = PowerCut(files, without, disk.content())
        if len(disk.in_use) > 1:
            self._state("a power cut ends two runs")
        for slot in disk.in_use:
            if slot.witness:
                slot.witness.dead = True

    def _power_is_back(self, cut: PowerCut) -> None:
        """What was committed is there, and what was under way is there as a whole or not at all."""
        disk = self.universe.disk
        disk.put(cut.files)
        content = disk.content()
        if content not in (cut.without, cut.complete):
            raise Wrong("a power cut took what was committed, or left a part of a transaction")
        if cut.without != cut.complete:
            survived = content == cut.complete
            self._state(f"a power cut {'comes behind' if survived else 'takes'} a transaction under way")

    def _fill(self, process: Process) -> None:
        disk = self.universe.disk
        with closing(disk.opened()) as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
        if process.asked:
            self._state("a disk is full in the middle of a run")
        for slot in disk.in_use:
            slot.restrict(f"PRAGMA max_page_count={pages + self._rng.choice((0, 0, 1, 3, 13))}")

    # --- a server ---

    def _towards_failover(self, process: Process, trouble: Trouble, kind: str) -> None:
        """From the drawn moment on, copy what a replica has, and go back to it some commits later."""
        disk, now = self.universe.disk, self.universe.now()
        if kind != "after commit" or trouble.copies > MOST_COPIES:
            return
        if trouble.copied_at is None:
            if not trouble.fate.strikes(kind):
                return
        elif now - trouble.copied_at <= BEHIND:
            trouble.left -= 1
            if trouble.left <= 0:
                trouble.copies = MOST_COPIES + 1
                self._fail_over(process, trouble)
            return
        trouble.copied_at, trouble.copy = now, disk.copied()
        trouble.copies += 1

    def _fail_over(self, process: Process, trouble: Trouble) -> None:
        universe = self.universe
        universe.network.faults += 1
        universe.census.sums[FAILOVER] += 1
        universe.tell(f"{process.name} {FAILOVER}, to {trouble.copied_at:%d %H:%M:%S}")
        self._state("a failover takes transactions")
        self._behind |= {slot.witness.name for slot in universe.disk.in_use if slot.witness}
        self._put_back(trouble.copy)

    # --- backups ---

    def before(self, number: int) -> None:
        """Make a backup before this sync, or put it back."""
        universe, (made, put_back) = self.universe, self._plan.backup or (None, None)
        if number == made:
            self._backup = universe.disk.copied()
            universe.tell("a backup is made")
        if number == put_back:
            universe.tell("the backup is put back")
            self._put_back(self._backup)
            self._state("a backup is put back" if made else "an empty database takes the place of a lost one")
            if self._plan.enters_used and universe.limits.usable is not None:
                self._enter_used()

    def _enter_used(self) -> None:
        """Enter what Beamer's dashboard shows, as the documentation says."""
        universe, limits = self.universe, self.universe.limits
        now = universe.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        first = midnight - timedelta(days=self._rng.randint(3, 20))
        if limits.period_day is not None:
            first, self.unentered = month_at(now, limits.period_day)[0], 0
        used = sum(seen.api == "beamer" and seen.at >= first for seen in universe.box.requests)
        ledger = Ledger(universe.disk.slot().database, ACCOUNT, universe.plan.members[0].name, limits)
        ledger.set_used(used, now + universe.ahead, first if limits.period_day is None else None)
        self.entered = first, self.unentered
        left, usable = ledger.balance(now + universe.ahead).left or 0, limits.usable or 0
        if left > max(0, usable - used):
            raise Wrong(f"{used} of {usable} requests are entered as used, and {left} are left")
        self._state("used requests are entered")
        universe.tell(f"{used} requests since {first:%Y-%m-%d} are entered as used")

    def _put_back(self, copy: Any) -> None:
        universe = self.universe
        self.lost, self.back_at = self.lost or taken(universe.disk), universe.now()
        before = charged(universe)
        universe.disk.put(copy)
        lacks = before - charged(universe)
        self.uncharged += lacks
        self.unentered += lacks


def charged(universe: "Universe") -> int:
    """How many requests the ledger has charged for this connector."""
    with closing(universe.disk.opened()) as db:
        (requests,) = db.execute(
            "SELECT coalesce(sum(requests), 0) FROM beamer_segment_spend WHERE purpose <> 'elsewhere'"
        ).fetchone()
    return int(requests)


def torn(before: Files, after: Files, rng: Random) -> Files:
    """What the disk has of a commit that was not synced: each sector by itself, the last ones often not."""
    new = after[LOG]
    old = before[LOG].ljust(len(new), b"\0")
    share, end = rng.choice((0.0, 0.5, 0.9, 1.0, 1.0)), len(new) - SECTOR * rng.choice((0, 0, 1, 5))
    return {
        **before,
        LOG: b"".join(
            (new if at < end and rng.random() < share else old)[at : at + SECTOR]
            for at in range(0, len(new), SECTOR)
        ),
    }

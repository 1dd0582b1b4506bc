"""What one page changes: messages, parents, child lists, counts. Decided first, then written at once."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from connector.domain.state import ChildState, ParentState, StreamState
from connector.domain.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """A row's id with its verdict, before the database has said whether it is new."""

    id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A finished message on its way into the outbox; `size` in bytes as sent."""

    message_id: str
    event: str
    text: str
    size: int
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used: why, and the row itself as JSON text."""

    reason: str
    body: str = field(repr=False)
    id: str | None = None

    @property
    def digest(self) -> str:
        """What it is known by when it is seen again: its id and what is wrong with it, or else all of it.

        The views of a post move from check to check, and it would be new in quarantine each time.
        """
        known = f"{self.id} {self.reason}" if self.id else self.body
        return hashlib.sha256(known.encode()).hexdigest()


@dataclass(slots=True)
class Effects:
    """What a page changes beside its rows' ids; `days` counts new rows by UTC day, where that is kept.

    A backfill writes no state of a list or a stream, for a sync may have it in hand: `habits` are the order
    and the short pages that it saw. `ahead` is how many more rows (or fewer) the counter of the page's list
    will still announce; it is added, since both may do so at once.
    """

    events: list[Outgoing] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    parents: list[ParentState] = field(default_factory=list)
    children: list[ChildState] = field(default_factory=list)
    stream: StreamState | None = None
    first_page: int | None = None
    ahead: int = 0
    habits: tuple[str, bool | None] | None = None
    tally: Counter[str] = field(default_factory=Counter)
    days: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page's rows belong."""

    stream: str
    scope: int
    parent: str

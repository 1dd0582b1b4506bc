"""The state of an account, and what one page changes in it: decided first, then written at once.

An account has streams; some list parents (posts and feature requests), whose children are in child lists.
"""

import hashlib
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from connector.domain.hints import ReadHint
from connector.errors import Forbidden


@dataclass(slots=True)
class StreamState:
    """One stream; `complete` once its list was read to the end.

    `page_rows` is how many rows a page holds, if that was seen to be fewer than the reference says. At
    `audited_at` its counts were last compared with the stored rows; `windows` is the rest of the audit of a
    list without counters (see sync/lists/count_windows.py). `recent` counts the latest rows, as of
    `checked_at`; `curve` is how rows arrive at a parent as it grows older, fitted at `fitted_at`.
    `verdict_count` counts the latest rows, and `to_send_count` those of them that were to be sent.
    `announced` and `silent` count rows that the counters had shown and had not shown; with too many silent
    ones, the counters are `distrusted`. After `failures` in a row, the last one at `failed_at`, it is not
    requested for a while. `late_share`: of the rows that a counter counted but the list did not show, the
    share that came when it was read again (see sync/lists/counter_trust.py). `hint_share`: of the latest
    rows, the share that hints had announced. `trouble` is what could not be read lately, with its code if
    later runs decide by it.
    """

    scope: int
    name: str
    watermark: datetime | None = None
    complete_through: datetime | None = None
    complete: bool = False
    cursor: str | None = None
    list_order: str = "unknown"
    short_ends: bool | None = None
    page_rows: int | None = None
    checked_at: datetime | None = None
    recent: float = 0.0
    audited_at: datetime | None = None
    windows: str | None = None
    curve: str | None = None
    fitted_at: datetime | None = None
    verdict_count: float = 0.0
    to_send_count: float = 0.0
    announced: float = 0.0
    silent: float = 0.0
    distrusted: bool = False
    trouble: str | None = None
    trouble_code: str | None = None
    unread: str | None = None
    trouble_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    late_share: float = 0.5
    hint_share: float = 0.0

    def forbidden_since(self, moment: datetime) -> bool:
        """Return whether Beamer has answered since then that the key may not read it."""
        at = self.trouble_at
        return self.trouble_code == Forbidden.trouble_code and at is not None and at > moment

    @property
    def problem(self) -> str | None:
        """Return what could not be read, with the dates of the rows that are still unread."""
        what = (self.trouble or "a page failed").rstrip(".")
        return f"{what}; some rows are unread, dated {self.unread}" if self.unread else self.trouble


@dataclass(slots=True)
class ParentState:
    """A post or a feature request, as last seen on a page.

    `status` is the believed one; `other_status` was shown instead `other_shown` times (see
    sync/rows/judging.py). `metrics` are views, unique views and clicks as last sent, on the UTC day
    `metrics_day`. It was first seen at `known_at`, last at `checked_at`; at `proved_at` its window was last
    read to the end, to prove that no row is hidden. After `failures` in a row of its block, the last one
    at `failed_at`, the block is not requested for a while. `title`: its digest, for webhooks.
    """

    id: str
    date: datetime
    status: str | None = None
    changes: int = 0
    gone: bool = False
    metrics: str | None = None
    metrics_day: int | None = None
    known_at: datetime | None = None
    checked_at: datetime | None = None
    proved_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    other_status: str | None = None
    other_shown: int = 0
    title: str | None = None


@dataclass(slots=True)
class ChildState:
    """A child list; counters are written as their parts joined by commas.

    `counter` is as last seen, `read_counter` as it was when the last complete pass began.

    `surplus` is how many rows were found beyond what the counter had shown: a lagging counter will still
    rise for them; `early` are those of the last reading, at `read_at`. Below zero, it is how many rows that
    the counter had shown were not found, since `short_since`. `fell`: the counter has fallen since, and
    `read_counter` with it, so that later rises show. `deep_at` and `whole_at`: when it was last read over
    the whole lookback, and completely. `waits_since`: when the first of the waiting rows appeared;
    `recent` counts its latest rows, as of `recent_at`. After `failures` in a row, the last one at
    `failed_at`, it is not requested for a while.
    """

    scope: int
    parent: str
    counter: str
    read_counter: str | None = None
    surplus: int = 0
    watermark: datetime | None = None
    cursor: str | None = None
    read_at: datetime | None = None
    early: int = 0
    deep_at: datetime | None = None
    whole_at: datetime | None = None
    fell: bool = False
    waits_since: datetime | None = None
    recent: float = 0.0
    recent_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    short_since: datetime | None = None


@dataclass(slots=True)
class Progress:
    """The state of a connection: by stream, and parents and child lists by stream and parent id."""

    streams: dict[str, StreamState] = field(default_factory=dict)
    parents: dict[str, dict[str, ParentState]] = field(default_factory=dict)
    children: dict[str, dict[str, ChildState]] = field(default_factory=dict)

    def child(self, stream: str, parent: str) -> ChildState | None:
        """Return the state of a child list; None for a list without a parent, or an unknown one."""
        return self.children.get(stream, {}).get(parent)


# --- what one page changes ------------------------------------------------------------------------------


class Verdict(IntEnum):
    """What was decided about a row, as it is stored.

    EVENT: its event went into the outbox. FORGOTTEN: of a person whose rows are not to be sent. MOVED: it has
    a verdict under another parent. QUARANTINED: it cannot be used. All others: excluded by a setting.
    """

    EVENT = 1
    NO_USER = 2
    TEAM = 3
    STREAM_OFF = 4
    QUARANTINED = 5
    FORGOTTEN = 6
    MOVED = 7

    @property
    def excluded(self) -> bool:
        return self in (Verdict.NO_USER, Verdict.TEAM, Verdict.STREAM_OFF)

    @property
    def revivable(self) -> bool:
        """Return whether a backfill under other settings may send it after all."""
        return self.excluded or self is Verdict.QUARANTINED

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """A row's id with its verdict, before the database has said whether it is new."""

    id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class NewRows:
    """What the database did not know of a page: ids of rows, and how many are new in quarantine."""

    ids: Set[str]
    quarantined: int = 0


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
        """Return the digest that identifies it: of its id and what is wrong, or of all of it without an id.

        The views of a post change from check to check: a digest of all would make it new each time.
        """
        known = f"{self.id} {self.reason}" if self.id else self.body
        return hashlib.sha256(known.encode()).hexdigest()


@dataclass(slots=True)
class Effects:
    """What a page changes besides its rows' ids; `days` counts new rows by UTC day, if they are counted.

    A backfill writes no state of a list or a stream, because a sync may write it: `habits` are the order and
    the short pages that it saw. `ahead` is how many more rows (or fewer) the counter of the page's list will
    still announce; it is added, since both may write at once. `caught_up` are lists whose counters have
    announced so many of those, by scope and parent. `hints` were read with this page.
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
    caught_up: list[tuple[int, str, int]] = field(default_factory=list)
    hints: list[ReadHint] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """The list that a page's rows belong to."""

    stream: str
    scope: int
    parent: str

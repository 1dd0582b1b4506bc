"""What is known of an account: its streams, its posts and requests, the lists below them."""

from dataclasses import dataclass, field
from datetime import datetime

from connector.errors import Forbidden


@dataclass(slots=True)
class StreamState:
    """One stream: `complete` once its list was read to the far end.

    `windows` is what the audit of a list without counters has still to do (see sync/lists/count_windows.py).
    `recent` counts the rows found lately, as of `checked_at`; `curve` is how rows come at a parent as it
    grows older, fitted at `fitted_at`. `verdict_count` counts the latest rows, and `to_send_count` those of
    them that were to be sent. `announced` and `silent` count rows that came with and without a
    word of the counters; too many silent ones, and the counters are `distrusted`. `failures` in a row, the
    last one at `failed_at`, make it rest. `late_share`: of the rows that a list did not show though its
    counter had announced them, the share that came when it was read again (see sync/lists/counter_trust.py).
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

    def forbidden_since(self, moment: datetime) -> bool:
        """Whether Beamer has said since then that the key may not read it."""
        at = self.trouble_at
        return self.trouble_code == Forbidden.trouble_code and at is not None and at > moment

    @property
    def problem(self) -> str | None:
        """What could not be read, with the dates of the rows that are still unread."""
        what = (self.trouble or "a page failed").rstrip(".")
        return f"{what}; some rows are unread, dated {self.unread}" if self.unread else self.trouble


@dataclass(slots=True)
class ParentState:
    """A post or a feature request, as last seen on a page.

    `status` is the one that is believed; `other_status` another one that was shown, `other_shown` times (see
    sync/rows/judging.py).
    `known_at` and `checked_at` say when that was first and last; `proved_at`, when a reading to its
    window's end last made sure that nothing hides there. `failures` in a row of the block that it is in,
    the last one at `failed_at`, make that rest.
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


@dataclass(slots=True)
class ChildState:
    """A child list; counters are written as their parts joined by commas.

    `surplus` is how many rows were found beyond what the counter had shown: a lagging counter will
    still move for them; `early` are those of the last reading. Below zero, it is how many rows the counter
    had announced that were not found, since `short_since`. `read_at`: when that was; `fell`: the
    counter has fallen since, and `read_counter` with it, so that what comes next shows. `deep_at` and
    `whole_at`: when it was last read over the whole lookback, and as a whole. `waits_since`: the moment at
    which the first of the rows that wait appeared; `recent` counts its latest rows, as of `recent_at`.
    `failures` in a row, the last one at `failed_at`, make it rest.
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
    """All of it for one connection."""

    streams: dict[str, StreamState] = field(default_factory=dict)
    parents: dict[str, dict[str, ParentState]] = field(default_factory=dict)
    children: dict[str, dict[str, ChildState]] = field(default_factory=dict)

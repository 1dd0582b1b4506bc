"""Where each connection stands, read from the store alone: no request is spent by looking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.beamer.catalogue import CATALOGUE
from connector.service.summary import WHY_HELD
from connector.state import progress, runs, views
from connector.state.connections import Identity, known
from connector.state.engine import Store
from connector.state.ledger import Balance, Ledger, Limits
from connector.state.progress import StreamState
from connector.sync.counters import moved
from connector.sync.picture import Picture
from connector.sync.policy import Policy
from connector.sync.unread import FirstReads, first_reads, read_by


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream: how far it is complete, what came of its rows, and what waits to be read.

    `lists_unread` of its lists hold rows and were never read; `discovering`: its own list was not yet read
    to the far end. `counters_trusted` is None where no counter speaks for it.
    """

    name: str
    complete_through: datetime | None
    newest: datetime | None
    counts: Mapping[str, int]
    lists_waiting: int
    quarantined: Mapping[str, int]
    trouble: str | None
    lists_unread: int = 0
    discovering: bool = False
    counters_trusted: bool | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """One connection; `identity` is None before its first run.

    `read_by` says when the lists never read will have been; None where there are none, or no telling.
    """

    name: str
    identity: Identity | None
    limit_text: str
    streams: tuple[StreamStatus, ...] = ()
    balance: Balance | None = None
    outbox: Mapping[str, int] | None = None
    last_run: Mapping[str, Any] | None = None
    unread: FirstReads | None = None
    read_by: datetime | None = None

    @property
    def held(self) -> Mapping[str, int]:
        """How many rows are held back, by why."""
        return {why: total for why in WHY_HELD if (total := sum(s.counts.get(why, 0) for s in self.streams))}

    def as_dict(self) -> dict[str, Any]:
        balance, who = self.balance, self.identity
        return {
            "connection": self.name,
            "account": who and who.account,
            "destination": who and who.destination,
            "start_date": _iso(who.start_date) if who else None,
            "limit": self.limit_text,
            "requests_used": balance and balance.used,
            "requests_left": balance and balance.left,
            "requests_at_hand": balance and balance.level,
            "requests_per_day": balance and balance.per_day,
            "closed_until": _iso(balance.closed_until) if balance else None,
            "lists_never_read": sum(self.unread.lists.values()) if self.unread else None,
            "read_by": _iso(self.read_by),
            "held_back": dict(self.held),
            "outbox": dict(self.outbox or {}),
            "segmented_posts_hidden": bool(who and who.ignore_filters is False),
            "streams": [_stream_dict(stream) for stream in self.streams],
            "last_run": _run_dict(self.last_run),
        }


def status(
    store: Store, name: str, limits: Limits, limit_text: str, policy: Policy | None, now: datetime
) -> Status:
    """Look a connection up; it has a policy once it has run."""
    identity = known(store, name)
    if identity is None or policy is None:
        return Status(name, None, limit_text)
    state = progress.peek(store, name)
    counts, bad = views.sums(store, name), views.quarantined(store, name)
    last = runs.recent(store, name, 1)
    balance = Ledger(store, identity.account, name, limits).balance(now)
    unread = first_reads([Picture(CATALOGUE, policy, state, None)])
    return Status(
        name,
        identity,
        limit_text,
        tuple(_stream(each, state, unread, counts, bad) for each in state.streams.values()),
        balance,
        views.outbox_sizes(store, name),
        last[0] if last else None,
        unread,
        read_by(unread, now, balance) if unread.lists else None,
    )


def _stream(
    state: StreamState,
    all_of: progress.Progress,
    unread: FirstReads,
    counts: Mapping[str, Mapping[str, int]],
    bad: Mapping[str, Mapping[str, int]],
) -> StreamStatus:
    lists = all_of.children.get(state.name, {}).values()
    marks = [child.watermark for child in lists if child.watermark]
    return StreamStatus(
        state.name,
        state.complete_through,
        state.watermark or max(marks, default=None),
        counts.get(state.name, {}),
        sum(moved(child.counter, child.swept) for child in lists),
        bad.get(state.name, {}),
        state.trouble,
        unread.lists.get(state.name, 0),
        state.name in unread.discovering,
        not state.distrusted if CATALOGUE[state.name].counters else None,
    )


def _stream_dict(stream: StreamStatus) -> dict[str, Any]:
    return {
        "stream": stream.name,
        "complete_through": _iso(stream.complete_through),
        "newest": _iso(stream.newest),
        "counts": dict(stream.counts),
        "lists_waiting": stream.lists_waiting,
        "lists_never_read": stream.lists_unread,
        "still_discovering": stream.discovering,
        "counters_trusted": stream.counters_trusted,
        "quarantined": dict(stream.quarantined),
        "trouble": stream.trouble,
    }


def _run_dict(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {name: _iso(value) if isinstance(value, datetime) else value for name, value in run.items()}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None

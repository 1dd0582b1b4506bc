"""A page with a verdict on each row, and the messages of those that are sent."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from connector.beamer.pagination import PageRows
from connector.beamer.rows import InvalidRow, Row, date_of, parse
from connector.beamer.streams import Stream
from connector.domain.state import Effects, Outgoing, Rejected, RowVerdict, Verdict
from connector.segment.messages import Unshapeable, build
from connector.segment.shaping import Fact, Shaped, shape
from connector.sync.policy import Policy
from connector.sync.rows.judging import fact_of, judge, unsettled, user_of_raw


def outgoing(fact: Fact, policy: Policy, now: datetime) -> Outgoing:
    """Return the finished message of a fact; raises Unshapeable."""
    return finished(shape(fact, policy.naming, policy.privacy, now))


def finished(shaped: Shaped, stream: str = "") -> Outgoing:
    """Return the finished message of a shaped event; raises Unshapeable."""
    message = build(shaped)
    return Outgoing(message.message_id, message.event, message.text, message.size, stream)


def enqueue(
    effects: Effects,
    rows: Iterable[tuple[Row, Any]],
    stream: Stream,
    parent: str,
    policy: Policy,
    now: datetime,
    title: str | None = None,
) -> None:
    """Add the events of new rows to a page's effects; rows that cannot be shaped are quarantined."""
    for row, raw in rows:
        try:
            effects.events.append(outgoing(fact_of(row, stream, parent, title), policy, now))
        except Unshapeable as error:
            effects.rejected.append(Rejected(error.reason, body_of(raw), row.id))


def enqueue_changes(
    effects: Effects, changes: Iterable[Fact], raw: Any, policy: Policy, now: datetime
) -> None:
    """Add the events of a row's changes; the row's own verdict stays."""
    for change in changes:
        try:
            effects.events.append(outgoing(change, policy, now))
        except Unshapeable as error:
            effects.rejected.append(Rejected(error.reason, body_of(raw)))


def rejected(invalid: InvalidRow) -> Rejected:
    return Rejected(invalid.reason, body_of(invalid.raw), invalid.id)


def body_of(raw: Any) -> str:
    """Return the raw row in ASCII: PostgreSQL refuses NUL and lone surrogates in text."""
    return json.dumps(raw, sort_keys=True)


@dataclass(frozen=True, slots=True)
class PageVerdicts:
    """The usable rows of a page, by id, each with its raw form; and the verdicts.

    `parents`: the ids of a list of parents, each with its raw row and a date (its own, or a neighbour's).
    Unusable rows are included: the id is enough to read their child lists.
    """

    seen: PageRows
    rows: Mapping[str, tuple[Row, Any]]
    row_verdicts: Sequence[RowVerdict]
    rejected: Sequence[Rejected]
    waits: datetime | None
    parents: Mapping[str, tuple[datetime | None, Any]]

    def events(self, fresh: Set[str]) -> list[tuple[Row, Any]]:
        """Return the new rows that are to be sent, oldest first."""
        sent = [
            self.rows[row.id] for row in self.row_verdicts if row.id in fresh and row.verdict is Verdict.EVENT
        ]
        return sorted(sent, key=lambda pair: pair[0].date)

    def dated_before(self, date: datetime) -> set[str]:
        """Return the rows that are older than `date`."""
        return {name for name, (row, _) in self.rows.items() if row.date < date}

    def without(self, moved: set[str]) -> "PageVerdicts":
        """Return the page without rows that have a verdict at another parent: they are not sent again."""
        if not moved:
            return self
        rows = self.row_verdicts
        rows = [replace(row, verdict=Verdict.MOVED) if row.id in moved else row for row in rows]
        return replace(self, row_verdicts=rows)

    def verdicts(self, fresh: Set[str]) -> list[Verdict]:
        """Return the verdicts on the new rows."""
        return [row.verdict for row in self.row_verdicts if row.id in fresh]

    def unsent(self, fresh: Set[str]) -> list[Verdict]:
        return [verdict for verdict in self.verdicts(fresh) if verdict is not Verdict.EVENT]


def judge_page(body: Sequence[Any], stream: Stream, policy: Policy, now: datetime) -> PageVerdicts:
    """Parse a page and decide its verdicts; `now` is Beamer's."""
    parsed = [(parse(raw, stream.fields), raw) for raw in body]
    rows = {row.id: (row, raw) for row, raw in parsed if isinstance(row, Row)}
    row_verdicts = []
    for row, _ in rows.values():
        verdict = judge(row, stream, policy, now)
        if verdict is not None:
            row_verdicts.append(RowVerdict(row.id, verdict))
    waiting = [row.date for row, _ in rows.values() if unsettled(row, stream, policy, now)]
    return PageVerdicts(
        seen_of(parsed),
        rows,
        row_verdicts,
        [
            rejected(row)
            for row, raw in parsed
            # Quarantine keeps raw rows: none of a forgotten person may get there.
            if isinstance(row, InvalidRow) and user_of_raw(raw) not in policy.forgotten
        ],
        min(waiting, default=None),
        _parents(parsed, rows) if stream.parent is None else {},
    )


def _parents(
    parsed: Sequence[tuple[Row | InvalidRow, Any]], rows: Mapping[str, tuple[Row, Any]]
) -> Mapping[str, tuple[datetime | None, Any]]:
    """Return every id of a page, with a date and its raw row.

    A row without a date gets the older date of its neighbours: blocks are ranges of time in which a row
    between two parents belongs to the older one's.
    """
    own_dates = [row.date if isinstance(row, Row) else date_of(raw) for row, raw in parsed]
    # Pinned rows come first, whatever their date.
    dates = [
        None if isinstance(row, Row) and row.fields.get("pinned") else date
        for (row, _), date in zip(parsed, own_dates, strict=True)
    ]
    parents: dict[str, tuple[datetime | None, Any]] = {}
    for number, (row, raw) in enumerate(parsed):
        if row.id is None or (row.id in rows and not isinstance(row, Row)):
            continue
        before = next((date for date in reversed(dates[:number]) if date), None)
        after = next((date for date in dates[number + 1 :] if date), None)
        beside = min((date for date in (before, after) if date), default=None)
        parents[row.id] = own_dates[number] or beside, raw
    return parents


def seen_of(parsed: Sequence[tuple[Row | InvalidRow, Any]]) -> PageRows:
    """Return the page's raw rows for paging. Pinned rows come first and do not show the order."""
    ids = tuple(row.id or hashlib.sha256(body_of(raw).encode()).hexdigest() for row, raw in parsed)
    usable = [row for row, _ in parsed if isinstance(row, Row)]
    dates = tuple(row.date for row in usable if not row.fields.get("pinned"))
    return PageRows(ids, dates, len(parsed))

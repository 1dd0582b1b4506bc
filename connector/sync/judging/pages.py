"""A page of raw rows, parsed and judged, before the database has said what is new."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.beamer.catalogue import Stream
from connector.beamer.pages import Seen
from connector.beamer.rows import Row, Unusable, parse
from connector.state.intake import Judged, Rejected
from connector.state.verdicts import Verdict
from connector.sync.judging.newness import judge, unsettled
from connector.sync.judging.people import user_of_raw
from connector.sync.judging.shaping import body_of, rejected
from connector.sync.policy import Policy


@dataclass(frozen=True, slots=True)
class JudgedPage:
    """The rows that can be used, by id, each with its raw form; and what becomes of them."""

    seen: Seen
    rows: Mapping[str, tuple[Row, Any]]
    judged: Sequence[Judged]
    rejected: Sequence[Rejected]
    waits: datetime | None

    def events(self, fresh: set[str]) -> list[tuple[Row, Any]]:
        """The new rows that are to be sent, oldest first."""
        sent = [self.rows[row.id] for row in self.judged if row.id in fresh and row.verdict is Verdict.EVENT]
        return sorted(sent, key=lambda pair: pair[0].date)

    def verdicts(self, fresh: set[str]) -> list[Verdict]:
        """What was decided about the new rows."""
        return [row.verdict for row in self.judged if row.id in fresh]

    def held(self, fresh: set[str]) -> list[Verdict]:
        return [verdict for verdict in self.verdicts(fresh) if verdict is not Verdict.EVENT]


def judged_page(body: Sequence[Any], stream: Stream, policy: Policy, now: datetime) -> JudgedPage:
    """Parse and judge a page; `now` is Beamer's."""
    parsed = [(parse(raw, stream.fields), raw) for raw in body]
    rows = {row.id: (row, raw) for row, raw in parsed if isinstance(row, Row)}
    judged = []
    for row, _ in rows.values():
        verdict = judge(row, stream, policy, now)
        if verdict is not None:
            judged.append(Judged(row.id, verdict))
    waiting = [row.date for row, _ in rows.values() if unsettled(row, stream, policy, now)]
    return JudgedPage(
        seen_of(parsed),
        rows,
        judged,
        [
            rejected(row)
            for row, raw in parsed
            # Quarantine keeps a row as it came: nothing of a forgotten person may get there.
            if isinstance(row, Unusable) and user_of_raw(raw) not in policy.forgotten
        ],
        min(waiting, default=None),
    )


def seen_of(parsed: Sequence[tuple[Row | Unusable, Any]]) -> Seen:
    """The page as paging judges it: by its raw rows. Pinned ones come first and say nothing of the order."""
    ids = tuple(row.id or hashlib.sha256(body_of(raw).encode()).hexdigest() for row, raw in parsed)
    usable = [row for row, _ in parsed if isinstance(row, Row)]
    dates = tuple(row.date for row in usable if not row.fields.get("pinned"))
    return Seen(ids, dates, len(parsed))

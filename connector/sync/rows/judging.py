"""The verdict on a row: new, too old, excluded by a setting, not ready, or of an erased person."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from connector.beamer.rows import Row, Unreadable
from connector.beamer.streams import USER, Stream
from connector.domain.state import ParentState, Verdict
from connector.segment.shaping import Fact, user_id, user_of
from connector.sync.policy import Policy


def is_forgotten(row: Row, policy: Policy) -> bool:
    """Return whether the row's user is one of those whose rows are not sent any more."""
    return user_id(row.fields.get("user_id")) in policy.forgotten


def user_of_raw(raw: Any) -> str | None:
    """Return the user of a row that may be invalid in other respects."""
    if not isinstance(raw, dict):
        return None
    try:
        return user_id(USER["user_id"].read(raw))
    except Unreadable:
        return None


TWICE = 2
# The count of a replaced status starts here, and again whenever the current status is shown.
LEFT = -TWICE


def after(before: ParentState, shown: str) -> ParentState:
    """Return the row's state after a check has shown a status; `status` differs if the change is believed."""
    if before.status is None:
        return replace(before, status=shown)
    if shown == before.status:
        return replace(before, other_shown=LEFT) if before.other_shown < 0 else before
    if shown != before.other_status:
        return replace(before, other_status=shown, other_shown=1)
    times = before.other_shown + 1
    if times in (0, TWICE):
        return replace(before, status=shown, other_status=before.status, other_shown=LEFT)
    return replace(before, other_shown=times)


def judge(row: Row, stream: Stream, policy: Policy, now: datetime) -> Verdict | None:
    """Return the row's verdict, or None if it is too early or too late for one.

    `now` is Beamer's. A row without a verdict is not stored, so that it can be judged again.
    """
    if row.date < policy.start or not _settled(row, stream, policy, now):
        return None
    if is_forgotten(row, policy):
        return Verdict.FORGOTTEN
    if stream.name not in policy.streams:
        return Verdict.STREAM_OFF
    if _inside(row, stream) and not policy.team_comments:
        return Verdict.TEAM
    if stream.by_user and policy.privacy.anonymous == "hold" and not _attributable(row, stream):
        return Verdict.NO_USER
    return Verdict.EVENT


def unsettled(row: Row, stream: Stream, policy: Policy, now: datetime) -> bool:
    """Return whether a row of the window must be checked again later."""
    return row.date >= policy.start and not _settled(row, stream, policy, now)


def fact_of(row: Row, stream: Stream, parent: str, title: str | None = None) -> Fact:
    """Return the row in the form for shaping; a reply has no title of its own and gets its parent's."""
    fields = {**row.fields, "team": by_team(row)}
    if title and not fields.get("title"):
        fields["title"] = title
    return Fact(stream.kind, row.id, parent, row.date, fields)


def by_team(row: Row) -> bool:
    """Return whether the team made the row: it names an internal user and no end user."""
    return bool(row.fields.get("internal")) and not row.fields.get("user_id")


def _settled(row: Row, stream: Stream, policy: Policy, now: datetime) -> bool:
    if stream.parent is None and not stream.settles:
        # Drafts and scheduled posts are listed, too; the row is sent once it is published.
        return row.fields.get("published") is not False and row.date <= now
    if stream.settles and not row.fields.get("text"):
        return row.date <= now - policy.nps_settle
    return True


def _inside(row: Row, stream: Stream) -> bool:
    """Return whether the words are the team's own: by the team, not visible, or written by Beamer."""
    if stream.parent is None:
        return False
    fields = row.fields
    return by_team(row) or fields.get("visible") is False or fields.get("automatic") is True


def _attributable(row: Row, stream: Stream) -> bool:
    return by_team(row) or user_of(Fact(stream.kind, row.id, "0", row.date, row.fields)) is not None

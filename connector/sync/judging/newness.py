"""How one row is judged, alone and without I/O; whether its id is new is for the database to say."""

from datetime import datetime

from connector.beamer.catalogue import Stream
from connector.beamer.rows import Row
from connector.segment.facts import Fact
from connector.segment.shape import user_of
from connector.state.verdicts import Verdict
from connector.sync.judging.people import is_forgotten
from connector.sync.policy import Policy


def judge(row: Row, stream: Stream, policy: Policy, now: datetime) -> Verdict | None:
    """Give the row's verdict, or None where none is due: it is too old, or not settled yet.

    `now` is Beamer's. A row without a verdict leaves no trace, so that it can be judged again.
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
    """Whether a row of the window has to be looked at again later."""
    return row.date >= policy.start and not _settled(row, stream, policy, now)


def fact_of(row: Row, stream: Stream, parent: str, title: str | None = None) -> Fact:
    """The row as shaping wants it; a reply carries no title of its own and gets its parent's."""
    fields = {**row.fields, "team": by_team(row)}
    if title and not fields.get("title"):
        fields["title"] = title
    return Fact(stream.kind, row.id, parent, row.date, fields)


def by_team(row: Row) -> bool:
    """Made by somebody of the team: an internal user is named and no end user."""
    return bool(row.fields.get("internal")) and not row.fields.get("user_id")


def _settled(row: Row, stream: Stream, policy: Policy, now: datetime) -> bool:
    if stream.parent is None and not stream.settles:
        # Drafts and scheduled posts are listed, too; they are published when they are.
        return row.fields.get("published") is not False and row.date <= now
    if stream.settles and not row.fields.get("text"):
        return row.date <= now - policy.nps_settle
    return True


def _inside(row: Row, stream: Stream) -> bool:
    """The team's own words: by the team, not visible, or written by Beamer itself."""
    if stream.parent is None:
        return False
    fields = row.fields
    return by_team(row) or fields.get("visible") is False or fields.get("automatic") is True


def _attributable(row: Row, stream: Stream) -> bool:
    return by_team(row) or user_of(Fact(stream.kind, row.id, "0", row.date, row.fields)) is not None

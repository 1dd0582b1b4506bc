"""Which events a row of the account should become, written down from the design once more.

It reads the sandbox's own rows, never what the connector made of them, and imports nothing of the connector.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connector.sandbox import Row
from tests.simulation.plan import Member

NOBODY = ("", "undefined", "null", "none", "0", "-1")
ACCOUNT = "acct"
SHORT = 140

EVENT = {
    "posts": ("Post Published", "post", "post_id"),
    "comments": ("Post Commented", "comment", "comment_id"),
    "reactions": ("Post Reacted To", "reaction", "reaction_id"),
    "nps": ("NPS Response Sent", "nps", "nps_id"),
    "feature_requests": ("Feature Request Submitted", "request", "request_id"),
    "feature_request_comments": ("Feature Request Commented", "requestcomment", "comment_id"),
    "feature_request_votes": ("Feature Request Voted", "vote", "vote_id"),
}
STREAM = {event: stream for stream, (event, _, _) in EVENT.items()}
TEXTS = {"nps": ("comment",), "comments": ("comment",)}
REQUEST_TEXTS = ("title", "comment")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a message must be. `anonymous`: under the connection's one id, or one of the person's own.

    `maybe` holds other values that a property may have had when the row was read.
    """

    name: str
    message_id: str
    user: str | None
    anonymous: str | None
    timestamp: datetime
    properties: dict[str, Any]
    maybe: dict[str, tuple[Any, ...]]
    email: str | None


@dataclass(frozen=True, slots=True)
class Fate:
    """`sent`, `held` (and why), `outside` the window, or `later`: not settled yet."""

    what: str
    why: str = ""


def yes(value: Any) -> bool:
    return str(value).lower() == "true"


def user_of(row: Row) -> str | None:
    value = row.fields.get("userId")
    user = "" if value is None else str(value).strip()
    return None if user.lower() in NOBODY else user


def by_team(row: Row) -> bool:
    inside = any(name.startswith("internalUser") for name in row.fields)
    return inside and row.fields.get("userId") in (None, "")


def fate(row: Row, member: Member, start: datetime, now: datetime) -> Fate:
    """What the settings want for a row, as it stands now."""
    if row.date < start:
        return Fate("outside")
    later = _later(row, member, now)
    if later:
        return Fate("later")
    if row.stream not in member.streams:
        return Fate("held", "stream_off")
    if row.stream == "feature_request_comments" and not member.team_comments:
        open_ = yes(row.fields.get("visible", "true")) and not yes(row.fields.get("actionComment", "false"))
        if by_team(row) or not open_:
            return Fate("held", "team")
    if row.stream != "posts" and member.anonymous == "hold" and user_of(row) is None and not by_team_ok(row):
        return Fate("held", "no_user")
    return Fate("sent")


def by_team_ok(row: Row) -> bool:
    return row.stream.startswith("feature_request") and by_team(row)


def _later(row: Row, member: Member, now: datetime) -> bool:
    if row.stream == "posts":
        return not yes(row.fields.get("published", "true")) or row.date > now
    if row.stream == "feature_requests":
        return row.date > now
    if row.stream == "nps":
        return not row.fields.get("feedback") and row.date > now - member.nps_settle
    return False


def message_id(row: Row, destination: str) -> str:
    """The id by which Segment knows a row's message, as the design spells it."""
    return f"bmr1-{destination}-{ACCOUNT}-{EVENT[row.stream][1]}-{row.parent_id or 0}-{row.id}"


def expected(row: Row, member: Member, destination: str, statuses: tuple[str, ...]) -> Expected:
    """The message of a row that is sent; `statuses` are all that a feature request ever had."""
    name, _, own_id = EVENT[row.stream]
    fields = row.fields
    properties, maybe = _properties(row, own_id, statuses)
    if row.stream == "nps" and member.ref_url == "bare" and properties["ref_url"]:
        properties["ref_url"] = properties["ref_url"].split("?")[0].split("#")[0]
    if row.stream == "nps" and member.nps_settle < timedelta(minutes=8):
        maybe["comment"] = (None,)
    _shorten(row, member, properties, maybe)
    user = None if row.stream == "posts" else user_of(row)
    anonymous = None if user else "own" if member.anonymous == "send" else "shared"
    if row.stream == "posts" or (user is None and by_team_ok(row)):
        anonymous = "shared"
    return Expected(
        name,
        message_id(row, destination),
        user,
        anonymous,
        row.date,
        properties,
        maybe,
        fields.get("userEmail"),
    )


def _properties(
    row: Row, own_id: str, statuses: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    fields, parent = row.fields, row.parent
    link = {own_id: row.id, "beamer_url": fields.get("url")}
    if row.stream == "comments":
        return link | {"post": fields["postTitle"], "post_id": row.parent_id, "comment": fields["text"]}, {}
    if row.stream == "reactions":
        told = {"post": fields["postTitle"], "post_id": row.parent_id, "reaction": fields["reaction"]}
        return link | told, {}
    if row.stream == "nps":
        told = {"score": fields["score"], "comment": fields["feedback"] or None, "ref_url": fields["refUrl"]}
        return link | told, {}
    if row.stream == "posts":
        translations = fields["translations"]
        return {
            own_id: row.id,
            "post": translations[0]["title"],
            "category": fields["category"],
            "languages": [each["language"] for each in translations],
            "link_url": translations[0]["linkUrl"],
        }, {}
    if row.stream == "feature_requests":
        first = fields["translations"][0]
        return {
            own_id: row.id,
            "title": first["title"],
            "category": fields["category"],
            "status": fields["status"],
            "url": first["permalink"],
        }, {"status": statuses}
    # A reply carries no title; its parent's is added where that was just read.
    above = parent.fields["translations"][0]["title"] if parent else None
    told = {"title": fields.get("featureRequestTitle", above), "request_id": row.parent_id}
    maybe: dict[str, tuple[Any, ...]] = {} if "featureRequestTitle" in fields else {"title": (None,)}
    if row.stream == "feature_request_comments":
        told["comment"] = fields["text"]
    return link | told, maybe


def _shorten(row: Row, member: Member, properties: dict[str, Any], maybe: dict[str, tuple[Any, ...]]) -> None:
    """What the setting for users' words leaves of them; the team's post titles are spared."""
    words = TEXTS.get(row.stream, REQUEST_TEXTS if row.stream.startswith("feature_request") else ())
    for name in words:
        text = properties.get(name)
        if not isinstance(text, str):
            continue
        if member.texts == "none":
            properties[name] = None
        elif member.texts == "short" and len(text) > SHORT:
            properties[name], properties["truncated"] = text[:SHORT], True
    if member.texts == "none" and row.stream == "feature_requests":
        properties["url"] = None

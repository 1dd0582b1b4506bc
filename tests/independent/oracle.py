"""Which events an account should become: the table 'Events' of the design, written down once more."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.independent.account import Account, FeatureRequest, Post, Row, title_of

SHARED = "beamer-default"
NO_USER = (None, "", "0", "undefined")
SETTLED = timedelta(minutes=15)

Key = tuple[str, str]  # the event's name and the row's id


@dataclass(frozen=True)
class Event:
    user: str  # a userId, or the shared anonymousId
    timestamp: datetime
    properties: dict[str, Any]


def events(account: Account, since: datetime) -> dict[Key, Event]:
    """Every row since a date that the default settings send."""
    return {
        (name, row.id): Event(user, row.date, {key: v for key, v in properties.items() if v is not None})
        for name, row, user, properties in rows(account)
        if row.date >= since and user not in NO_USER
    }


def rows(account: Account) -> Iterator[tuple[str, Row, str | None, dict[str, Any]]]:
    for post in account.posts:
        yield from of_post(post)
    for request in account.requests:
        yield from of_request(request)
    for row in account.nps:
        if "feedback" not in row.body and account.now - row.date < SETTLED:
            continue
        properties = {
            "score": row.body["score"],
            "comment": row.body.get("feedback"),
            "nps_id": row.id,
            "ref_url": row.body["refUrl"].split("?")[0].split("#")[0],
            "beamer_url": row.body["url"],
        }
        yield "NPS Response Sent", row, row.body.get("userId"), properties


def of_post(post: Post) -> Iterator[tuple[str, Row, str | None, dict[str, Any]]]:
    parent = {"post": title_of(post), "post_id": post.id}
    translations = post.body["translations"]
    if post.body["published"] == "true":
        properties = parent | {
            "category": post.body["category"],
            "languages": [translation["language"] for translation in translations],
            "link_url": translations[0]["linkUrl"],
        }
        yield "Post Published", post, SHARED, properties
    for row in post.comments:
        properties = parent | {"comment": row.body["text"], "comment_id": row.id}
        yield "Post Commented", row, row.body.get("userId"), properties | {"beamer_url": row.body["url"]}
    for row in post.reactions:
        properties = parent | {"reaction": row.body["reaction"], "reaction_id": row.id}
        yield "Post Reacted To", row, row.body.get("userId"), properties | {"beamer_url": row.body["url"]}


def of_request(request: FeatureRequest) -> Iterator[tuple[str, Row, str | None, dict[str, Any]]]:
    parent = {"title": title_of(request), "request_id": request.id}
    properties = parent | {
        "category": request.body["category"],
        "status": request.body["status"],
        "url": request.body["translations"][0]["permalink"],
    }
    by_team = "internalUserEmail" in request.body
    yield (
        "Feature Request Submitted",
        request,
        SHARED if by_team else request.body.get("userId"),
        properties,
    )
    for row in request.comments:
        body = row.body
        if "internalUserEmail" in body or body["visible"] != "true" or body["actionComment"] == "true":
            continue
        properties = parent | {"comment": body["text"], "comment_id": row.id, "beamer_url": body["url"]}
        yield "Feature Request Commented", row, body.get("userId"), properties
    for row in request.votes:
        properties = parent | {"vote_id": row.id, "beamer_url": row.body["url"]}
        yield "Feature Request Voted", row, row.body.get("userId"), properties


ROW_ID = {
    "Post Published": "post_id",
    "Post Commented": "comment_id",
    "Post Reacted To": "reaction_id",
    "NPS Response Sent": "nps_id",
    "Feature Request Submitted": "request_id",
    "Feature Request Commented": "comment_id",
    "Feature Request Voted": "vote_id",
    "Feature Request Status Changed": "request_id",
}


def read(messages: list[dict[str, Any]]) -> list[tuple[Key, Event]]:
    """Segment's messages in the oracle's form, doubles and all."""
    found = []
    for message in messages:
        properties = {name: value for name, value in message["properties"].items() if value is not None}
        name = message["event"]
        user = message.get("userId") or message["anonymousId"]
        event = Event(str(user), datetime.fromisoformat(message["timestamp"]), properties)
        found.append(((name, str(properties[ROW_ID[name]])), event))
    return found

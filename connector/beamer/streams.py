"""The seven streams: their lists, the fields of their rows, and the counters that count them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connector.beamer.rows import Field, Unreadable, flag, integer, mapping, moment, storable, text


def _translations(value: Any) -> list[Mapping[str, Any]]:
    # The reference's schema names one translation, its examples show a list of them.
    values = [value] if isinstance(value, dict) else value
    if not isinstance(values, list):
        raise Unreadable("not a list")
    return [translation for translation in values if isinstance(translation, dict)]


def _first(name: str) -> Field:
    """Return the field `name` of the first translation."""

    def parse(value: Any) -> str | None:
        text = next(iter(_translations(value)), {}).get(name)
        if isinstance(text, list):
            # Some of Beamer's clients read links as lists.
            text = next((part for part in text if isinstance(part, str) and part), None)
        return storable(text) if isinstance(text, str) and text else None

    return Field(parse, ("translations",), optional=True)


def _languages(value: Any) -> list[str]:
    """Return the language codes as Beamer writes them, in its order."""
    codes = (translation.get("language") for translation in _translations(value))
    return [storable(code) for code in codes if isinstance(code, str)]


USER = {
    "user_id": Field(text, ("userId",)),
    "email": Field(text, ("userEmail",), optional=True),
    # Feature requests spell it with a lower n.
    "first_name": Field(text, ("userFirstName", "userFirstname"), optional=True),
    "last_name": Field(text, ("userLastName", "userLastname"), optional=True),
    "attributes": Field(mapping, ("userCustomAttributes",), optional=True),
    "url": Field(text, ("url",), optional=True),
}
TEAM = {
    "internal": Field(text, ("internalUserEmail", "internalUserFirstname", "internalUserLastname"), True),
    "visible": Field(flag, ("visible",), optional=True),
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One list of Beamer's.

    `cap`: the most rows of a page. `counters`: the fields of the parent's row that count this stream's rows.
    `params`: parameters of every request. `settles`: a row's text may come later. `filtered`: posts with a
    segmentation filter are hidden without `ignoreFilters`.
    """

    name: str
    kind: str
    path: str
    fields: Mapping[str, Field]
    cap: int = 10
    parent: str | None = None
    counters: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    by_user: bool = True
    settles: bool = False
    filtered: bool = False

    def path_for(self, parent: str) -> str:
        return self.path.format(parent=parent)


POSTS = Stream(
    "posts",
    "post",
    "/posts",
    {
        "title": _first("title"),
        "languages": Field(_languages, ("translations",), optional=True),
        "link_url": _first("linkUrl"),
        "category": Field(text, ("category",), optional=True),
        "published": Field(flag, ("published",), optional=True),
        "pinned": Field(flag, ("pinned",), optional=True),
        "views": Field(integer, ("views",), optional=True),
        "unique_views": Field(integer, ("uniqueViews",), optional=True),
        "clicks": Field(integer, ("clicks",), optional=True),
    },
    # Without these a listed post counts as viewed; reads by id have no such parameters (reference).
    params={"saveViews": "false", "ignoreRequestDetails": "true"},
    by_user=False,
    filtered=True,
)
COMMENTS = Stream(
    "comments",
    "comment",
    "/posts/{parent}/comments",
    {"title": Field(text, ("postTitle",), optional=True), "text": Field(text, ("text",)), **USER},
    parent="posts",
    counters=("feedbacks",),
)
REACTIONS = Stream(
    "reactions",
    "reaction",
    "/posts/{parent}/reactions",
    {"title": Field(text, ("postTitle",), optional=True), "reaction": Field(text, ("reaction",)), **USER},
    parent="posts",
    counters=("positiveReactions", "neutralReactions", "negativeReactions"),
)
NPS = Stream(
    "nps",
    "nps",
    "/nps",
    {
        "score": Field(integer, ("score",)),
        "text": Field(text, ("feedback",)),
        "ref_url": Field(text, ("refUrl",), optional=True),
        **USER,
    },
    cap=100,
    settles=True,
)
FEATURE_REQUESTS = Stream(
    "feature_requests",
    "request",
    "/requests",
    {
        "title": _first("title"),
        "permalink": _first("permalink"),
        "category": Field(text, ("category",), optional=True),
        "status": Field(text, ("status",), optional=True),
        **USER,
        **TEAM,
    },
)
FEATURE_REQUEST_COMMENTS = Stream(
    "feature_request_comments",
    "requestcomment",
    "/requests/{parent}/comments",
    {
        "title": Field(text, ("featureRequestTitle",), optional=True),
        "text": Field(text, ("text",)),
        "automatic": Field(flag, ("actionComment",), optional=True),
        **USER,
        **TEAM,
    },
    parent="feature_requests",
    counters=("commentsCount",),
)
FEATURE_REQUEST_VOTES = Stream(
    "feature_request_votes",
    "vote",
    "/requests/{parent}/votes",
    {"title": Field(text, ("featureRequestTitle",), optional=True), **USER},
    parent="feature_requests",
    counters=("votesCount",),
)

CATALOGUE: Mapping[str, Stream] = {
    stream.name: stream
    for stream in (
        *(POSTS, COMMENTS, REACTIONS, NPS),
        *(FEATURE_REQUESTS, FEATURE_REQUEST_COMMENTS, FEATURE_REQUEST_VOTES),
    )
}


def children(catalogue: Mapping[str, Stream], parent: str) -> tuple[Stream, ...]:
    """Return the streams whose rows belong to rows of `parent`."""
    return tuple(stream for stream in catalogue.values() if stream.parent == parent)


# Users are not a stream: they have no id and no date of their own, and the planner's rules do not apply.
# They are read for `identify` (sync/users.py).
USERS, USERS_PATH, USERS_CAP = "users", "/users", 100
PROFILE = {
    "user_id": USER["user_id"],
    "language": Field(text, ("language",), optional=True),
    "filter": Field(text, ("filter",), optional=True),
    "first_seen": Field(moment, ("firstSeen",), optional=True),
    "last_seen": Field(moment, ("lastSeen",), optional=True),
}


def profile_of(raw: Any) -> Mapping[str, Any] | None:
    """Parse a user; None if the row is not an object, or its user id not a text."""
    try:
        return {name: field.read(raw) for name, field in PROFILE.items()} if isinstance(raw, dict) else None
    except Unreadable:
        return None

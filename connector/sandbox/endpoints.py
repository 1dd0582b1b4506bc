"""The endpoints as data: path, stream, parameters, page cap."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Literal

from connector.sandbox import parameters as p

Act = Literal["list", "count", "get", "ping"]


@dataclass(frozen=True)
class Endpoint:
    """One path and what it answers with."""

    pattern: Pattern[str]
    act: Act
    stream: str
    parent: str
    parameters: Mapping[str, str]
    cap: int = 10
    plan: str = "free"
    method: str = "GET"


def _at(path: str) -> Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def _trio(
    path: str, stream: str, shared: p.Kinds, *, parent: str = "", count: p.Kinds | None = None
) -> tuple[Endpoint, ...]:
    return (
        Endpoint(_at(path), "list", stream, parent, {**shared, **p.PAGES}),
        Endpoint(_at(f"{path}/count"), "count", stream, parent, shared if count is None else count),
        Endpoint(_at(f"{path}/{{id}}"), "get", stream, parent, {}),
    )


_WORDS: p.Kinds = {**p.DATES, "language": "text", "search": "text"}
_REQUESTS: p.Kinds = {
    **_WORDS,
    "filters": "text:pro",
    "category": "text",
    "status": "text",
    "visible": "boolean",
}
_REQUEST = "/requests/{parent}"
_READING: p.Kinds = {**p.VIEWER, "traceableLinks": "boolean", "ignoreRequestDetails": "boolean"}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _at("/posts"),
        "list",
        "posts",
        "",
        {
            **p.POSTS,
            **_READING,
            **p.PAGES,
            "language": "text",
            "expired": "boolean:starter",
            "saveViews": "boolean",
        },
    ),
    Endpoint(
        _at("/posts/count"),
        "count",
        "posts",
        "",
        {**p.POSTS, "language": "text:starter", "expired": "boolean", "userId": "text"},
    ),
    Endpoint(_at("/posts/{id}"), "get", "posts", "", {**_READING, "language": "text"}),
    *_trio("/posts/{parent}/comments", "comments", _WORDS, parent="posts"),
    *_trio("/posts/{parent}/reactions", "reactions", {**p.DATES, "reaction": "text"}, parent="posts"),
    *_trio("/requests", "feature_requests", _REQUESTS),
    *_trio(
        f"{_REQUEST}/comments",
        "feature_request_comments",
        {**_WORDS, "visible": "boolean"},
        parent="feature_requests",
    ),
    *_trio(f"{_REQUEST}/votes", "feature_request_votes", p.DATES, parent="feature_requests", count={}),
    Endpoint(_at("/nps"), "list", "nps", "", {**p.DATES, **p.SCORES, **p.PAGES}, 100),
    Endpoint(_at("/nps/count"), "count", "nps", "", {**p.DATES, **p.SCORES}),
    Endpoint(
        _at("/users"),
        "list",
        "users",
        "",
        {"userId": "text", "beamerId": "text", "userEmail": "text", "sort": "text", **p.PAGES},
        100,
        "scale",
    ),
    Endpoint(_at("/ping"), "ping", "ping", "", {}, method="POST"),
)


def trimmed(path: str) -> str:
    """A path without whatever the base URL put before it."""
    for start in ("posts", "requests", "nps", "users", "ping"):
        found = re.search(rf"/{start}(?:/|$)", path)
        if found:
            return path[found.start() :].rstrip("/")
    return path


def route(path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint of a path and the ids in it."""
    for endpoint in ENDPOINTS:
        if found := endpoint.pattern.fullmatch(path):
            return endpoint, found.groupdict()
    return None

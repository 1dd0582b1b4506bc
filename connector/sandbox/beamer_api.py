"""The API of Beamer, as its reference describes it."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from re import Pattern
from typing import Any, Literal

from connector.sandbox.account import TYPE, Switches, reaches, said
from connector.sandbox.row import DAY, Fields, Row, iso, seconds
from connector.sandbox.server import Answer, Request
from connector.sandbox.world import World

Kinds = Mapping[str, str]

DATES: Kinds = {"dateFrom": "date", "dateTo": "date"}
PAGES: Kinds = {"maxResults": "size", "page": "page"}
VIEWER: Kinds = {"userFirstName": "text", "userLastName": "text", "userEmail": "text", "userId": "text"}
SEGMENTS: Kinds = {"filter": "text:pro", "forceFilter": "text:pro", "filterUrl": "text:pro"}
POSTS: Kinds = {
    **SEGMENTS,
    **DATES,
    "category": "text",
    "published": "boolean",
    "archived": "boolean",
    "filterByUserId": "boolean:scale",
    "ignoreFilters": "boolean",
}
SCORES: Kinds = {"scoreFrom": "integer", "scoreTo": "integer", "search": "text"}


class BadParameter(Exception):
    """A parameter that the reference does not allow, with the answer's status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def check(kind: str, name: str, value: str) -> None:
    """Refuse a value that is not of its kind."""
    if kind == "date":
        date(name, value)
    elif kind == "boolean" and value.lower() not in ("true", "false"):
        raise BadParameter(400, f"The parameter {name} must be a boolean.")
    elif kind in ("integer", "size", "page"):
        _integer(name, value, {"size": 1, "page": 0}.get(kind))


def _integer(name: str, value: str, least: int | None) -> None:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (least is not None and int(value) < least):
        raise BadParameter(400, f"The parameter {name} is not valid.")


def date(name: str, value: str) -> float:
    """An ISO-8601 date as epoch seconds."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise BadParameter(400, f"The parameter {name} must follow the ISO-8601 format.") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def is_true(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() == "true"


COUNTERS = {
    "posts": ("feedbacks", "positiveReactions", "neutralReactions", "negativeReactions"),
    "feature_requests": ("votesCount", "commentsCount"),
}
METRICS = ("views", "uniqueViews", "clicks")
NUMBERS_ANYWAY = {"score", "votesCount", "userCustomAttributes"}
NATIVE_NUMBERS = {"views", "uniqueViews", "clicks", "commentsCount", *COUNTERS["posts"]}
NATIVE_BOOLEANS = {
    *("published", "pinned", "showInWidget", "showInStandalone", "autoOpen", "feedbackEnabled"),
    *("reactionsEnabled", "visible", "actionComment", "archived"),
}


def render(row: Row, world: World, switches: Switches) -> bytes:
    """A row's JSON, kept until something in it changes."""
    counts = _counts(row, world, switches)
    untold = switches.nps_text_later and row.text_s > world.now
    key = (row.version, counts, untold, switches.native_types)
    if row.cache and row.cache[0] == key:
        return row.cache[1]
    fields: Fields = {"id": row.id, "date": iso(row.date_s), **row.fields}
    if row.stream in COUNTERS:
        named = _named(row.stream, counts)
        # A counter set by hand stays, as a test may want one that lies; metrics go on from there.
        fields = {**named, **fields, **{name: named[name] for name in METRICS if name in named}}
    if untold:
        fields["feedback"] = ""
    typed = {name: _typed(name, value, row.stream, switches.native_types) for name, value in fields.items()}
    body = json.dumps(typed, ensure_ascii=False).encode()
    row.cache = (key, body)
    return body


def _counts(row: Row, world: World, switches: Switches) -> tuple[int, ...]:
    if row.stream not in COUNTERS:
        return ()
    at = world.now - switches.counters_lag.total_seconds()
    tallies = (world.tally(name, row.id) for name in COUNTERS[row.stream])
    ignore = switches.counters_ignore_deletions
    counts = tuple(tally.at(at, ignore_deletions=ignore) if tally else 0 for tally in tallies)
    return counts + _metrics(row, world) if row.stream == "posts" else counts


def _metrics(row: Row, world: World) -> tuple[int, ...]:
    now = min(world.now, world.opened) if world.company.still else world.now
    days = max(0.0, (now - row.starts_s) / DAY) if row.appeal else 0.0
    views = int(row.appeal * (400 * (1 - 2 ** (-days / 3)) + 0.5 * days))
    by_hand = (
        row.fields.get(name, usual)
        for name, usual in zip(METRICS, (views, views * 4 // 5, views // 3), strict=True)
    )
    views, unique, clicks = (int(value) for value in by_hand)
    return views + row.reads, unique + row.reads, clicks


def _named(stream: str, counts: tuple[int, ...]) -> Fields:
    names = COUNTERS[stream] + (METRICS if stream == "posts" else ())
    return dict(zip(names, counts, strict=True))


def _typed(name: str, value: Any, stream: str, native: bool) -> Any:
    if native:
        return _native(name, value, stream)
    if name in NUMBERS_ANYWAY or not isinstance(value, bool | int):
        return value
    return str(value).lower()


def _native(name: str, value: Any, stream: str) -> Any:
    if not isinstance(value, str):
        return value
    if name in NATIVE_BOOLEANS and value in ("true", "false"):
        return value == "true"
    if (name in NATIVE_NUMBERS or (name == "id" and stream != "nps")) and value.isdigit():
        return int(value)
    return value


NOT_FILTERS = {
    *("dateFrom", "dateTo", "maxResults", "page", "saveViews", "traceableLinks", "ignoreRequestDetails"),
    *("userFirstName", "userLastName", "userEmail"),
}
Keep = Callable[[Row], bool]
PLAIN = {"category": "category", "status": "status", "reaction": "reaction", "filters": "filters"}
BOOLEAN = {"published": "true", "archived": "false", "visible": "true"}


def filter_key(params: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What of a query decides which rows are kept."""
    return tuple(sorted((name, value) for name, value in params.items() if name not in NOT_FILTERS))


def keeps(stream: str, params: Mapping[str, str], now: float) -> Keep:
    """A predicate for one query."""
    tests: list[Keep] = [lambda row: not row.hidden]
    if stream == "posts" and not is_true(params, "ignoreFilters"):
        tests.append(lambda row: _segment(row, params.get("filter", ""), params.get("forceFilter", "")))
    for name, value in params.items():
        test = _test(name, value.lower(), now)
        if test:
            tests.append(test)
    return lambda row: all(test(row) for test in tests)


def _segment(row: Row, wanted: str, forced: str) -> bool:
    segments = [part for part in str(row.fields.get("filter") or "").split(";") if part]
    if forced:
        return forced in segments
    return not segments or wanted in segments


def _test(name: str, value: str, now: float) -> Keep | None:
    if name in PLAIN:
        return lambda row: str(row.fields.get(PLAIN[name], "")).lower() == value
    if name in BOOLEAN:
        return lambda row: str(row.fields.get(name, BOOLEAN[name])).lower() == value
    if name == "expired":
        return lambda row: str(_expired(row, now)).lower() == value
    if name == "search":
        return lambda row: value in _words(row).lower()
    if name == "language":
        return lambda row: value in _languages(row)
    if name in ("scoreFrom", "scoreTo"):
        sign = 1 if name == "scoreFrom" else -1
        return lambda row: sign * int(row.fields["score"]) >= sign * int(value)
    return None


def _expired(row: Row, now: float) -> bool:
    due = row.fields.get("dueDate")
    return seconds(due) < now if due else False


def _words(row: Row) -> str:
    return " ".join(str(row.fields.get(name) or "") for name in ("text", "feedback")) + row.title


def _languages(row: Row) -> list[str]:
    translations = row.fields.get("translations")
    return [part["language"].lower() for part in translations] if translations else ["en"]


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
    path: str, stream: str, shared: Kinds, *, parent: str = "", count: Kinds | None = None
) -> tuple[Endpoint, ...]:
    return (
        Endpoint(_at(path), "list", stream, parent, {**shared, **PAGES}),
        Endpoint(_at(f"{path}/count"), "count", stream, parent, shared if count is None else count),
        Endpoint(_at(f"{path}/{{id}}"), "get", stream, parent, {}),
    )


_WORDS: Kinds = {**DATES, "language": "text", "search": "text"}
_REQUESTS: Kinds = {
    **_WORDS,
    "filters": "text:pro",
    "category": "text",
    "status": "text",
    "visible": "boolean",
}
_REQUEST = "/requests/{parent}"
_READING: Kinds = {**VIEWER, "traceableLinks": "boolean", "ignoreRequestDetails": "boolean"}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _at("/posts"),
        "list",
        "posts",
        "",
        {
            **POSTS,
            **_READING,
            **PAGES,
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
        {**POSTS, "language": "text:starter", "expired": "boolean", "userId": "text"},
    ),
    Endpoint(_at("/posts/{id}"), "get", "posts", "", {**_READING, "language": "text"}),
    *_trio("/posts/{parent}/comments", "comments", _WORDS, parent="posts"),
    *_trio("/posts/{parent}/reactions", "reactions", {**DATES, "reaction": "text"}, parent="posts"),
    *_trio("/requests", "feature_requests", _REQUESTS),
    *_trio(
        f"{_REQUEST}/comments",
        "feature_request_comments",
        {**_WORDS, "visible": "boolean"},
        parent="feature_requests",
    ),
    *_trio(f"{_REQUEST}/votes", "feature_request_votes", DATES, parent="feature_requests", count={}),
    Endpoint(_at("/nps"), "list", "nps", "", {**DATES, **SCORES, **PAGES}, 100),
    Endpoint(_at("/nps/count"), "count", "nps", "", {**DATES, **SCORES}),
    Endpoint(
        _at("/users"),
        "list",
        "users",
        "",
        {"userId": "text", "beamerId": "text", "userEmail": "text", "sort": "text", **PAGES},
        100,
        "scale",
    ),
    Endpoint(_at("/ping"), "ping", "ping", "", {}, method="POST"),
)


_RESOURCE = re.compile(r"/(posts|requests|nps|users|ping)(?:/|$)")


def trimmed(path: str) -> str:
    """Return a path without what the base URL puts before it."""
    match = _RESOURCE.search(path)
    return path[match.start() :].rstrip("/") if match else path


def route(path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint of a path and the ids in it."""
    for endpoint in ENDPOINTS:
        if found := endpoint.pattern.fullmatch(path):
            return endpoint, found.groupdict()
    return None


NOUNS = {"posts": "Post", "feature_requests": "Feature request", "nps": "Response"}
FORBIDDEN = "Not allowed to access this resource."


class BeamerApi:
    """Answers requests that have passed the gate."""

    def __init__(self, world: World, switches: Switches, plan: str) -> None:
        self.world = world
        self.switches = switches
        self.plan = plan

    def answer(self, request: Request) -> Answer:
        found = route(trimmed(request.path))
        if found is None:
            return said(404, "Not found.")
        endpoint, ids = found
        if request.method != endpoint.method:
            return said(405, "This method is not allowed on this resource.")
        try:
            self._permit(endpoint, request)
            return Answer(200, self._body(endpoint, ids, request), dict(TYPE))
        except BadParameter as refused:
            return said(refused.status, refused.text)

    def _permit(self, endpoint: Endpoint, request: Request) -> None:
        if endpoint.stream not in self.switches.may_read or not reaches(self.plan, endpoint.plan):
            raise BadParameter(403, FORBIDDEN)
        for name, value in request.params.items():
            kind, _, plan = endpoint.parameters.get(name, "").partition(":")
            if not kind and self.switches.strict_parameters:
                raise BadParameter(400, f"Unknown parameter {name}.")
            if not reaches(self.plan, plan or "free"):
                raise BadParameter(403, f"The parameter {name} is only available on another plan.")
            check(kind, name, value)
        if is_true(request.params, "ignoreFilters") and not self.switches.ignore_filters_allowed:
            raise BadParameter(403, "The API key has no permission to ignore filters.")

    def _body(self, endpoint: Endpoint, ids: dict[str, str], request: Request) -> bytes:
        if endpoint.act == "ping":
            return b'{"name": "Sandbox"}'
        if endpoint.stream == "users":
            return self._users(endpoint, request)
        parent = self._existing(endpoint.parent, ids["parent"]).id if endpoint.parent else None
        if endpoint.act == "get":
            row = self._existing(endpoint.stream, ids["id"])
            if row.parent_id != parent:
                raise BadParameter(404, "Not found.")
            return self._rendered([row], viewed=endpoint.stream == "posts")[0]
        rows = self._listed(endpoint, parent, request)
        if endpoint.act == "count":
            return b'{"count": %d}' % len(rows)
        viewed = endpoint.stream == "posts" and request.params.get("saveViews", "").lower() != "false"
        return b"[" + b", ".join(self._rendered(self._page(endpoint, rows, request), viewed=viewed)) + b"]"

    def _existing(self, stream: str, row_id: str) -> Row:
        if stream != "nps" and not row_id.isdigit():
            raise BadParameter(400, "The id must be an integer.")
        row = self.world.find(stream, row_id)
        if row is None:
            raise BadParameter(404, f"{NOUNS.get(stream, 'Row')} not found.")
        return row

    def _listed(self, endpoint: Endpoint, parent: str | None, request: Request) -> Sequence[Row]:
        switches, params = self.switches, request.params
        shelf = self.world.shelf(endpoint.stream, parent)
        after = date("dateFrom", params["dateFrom"]) if "dateFrom" in params else float("-inf")
        before = date("dateTo", params["dateTo"]) if "dateTo" in params else self.world.now
        span = shelf.span(
            after,
            before,
            from_inclusive=switches.date_from_inclusive,
            to_inclusive=switches.date_to_inclusive or "dateTo" not in params,
        )
        rows = shelf.ordered(span, switches.order, switches.pinned_first and endpoint.stream == "posts")
        if endpoint.parent and switches.lists_lag:
            shown = self.world.now - switches.lists_lag.total_seconds()
            rows = [row for row in rows if row.appears_s <= shown]
        if switches.filters_after_page if endpoint.act == "list" else switches.unfiltered_count:
            return rows
        return self._kept(endpoint, rows, request, (span, switches.order, switches.pinned_first, len(rows)))

    def _kept(
        self, endpoint: Endpoint, rows: Sequence[Row], request: Request, place: object
    ) -> Sequence[Row]:
        key = filter_key(request.params)
        if not key and endpoint.stream != "posts" and not self.world.hides:
            return rows
        parent = rows[0].parent_id if rows else None
        moment = self.world.now if "expired" in request.params else None
        keep = keeps(endpoint.stream, request.params, self.world.now)
        return self.world.shelf(endpoint.stream, parent).kept((place, key, moment), rows, keep)

    def _page(self, endpoint: Endpoint, rows: Sequence[Row], request: Request) -> Sequence[Row]:
        size = min(endpoint.cap, int(request.params.get("maxResults", endpoint.cap)))
        size = max(min(size, 2), int(size * self.switches.page_share))
        first = self.switches.first_page
        page = max(0, int(request.params.get("page", first)) - first)
        cut = rows[page * size : (page + 1) * size]
        if not self.switches.filters_after_page:
            return cut
        keep = keeps(endpoint.stream, request.params, self.world.now)
        return [row for row in cut if keep(row)]

    def _rendered(self, rows: Sequence[Row], *, viewed: bool) -> list[bytes]:
        bodies = [render(row, self.world, self.switches) for row in rows]
        for row in rows if viewed else ():
            self.world.count_view(row)
        return bodies

    def _users(self, endpoint: Endpoint, request: Request) -> bytes:
        wanted = {
            name: request.params[name]
            for name in ("userId", "beamerId", "userEmail")
            if name in request.params
        }
        users = [
            user
            for user in self.world.users()
            if all(str(user.get(name) or "") == value for name, value in wanted.items())
        ]
        size = min(endpoint.cap, int(request.params.get("maxResults", endpoint.cap)))
        page = max(0, int(request.params.get("page", self.switches.first_page)) - self.switches.first_page)
        return json.dumps(users[page * size : (page + 1) * size], ensure_ascii=False).encode()

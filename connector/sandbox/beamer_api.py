"""The API of Beamer, as its reference describes it: parameters, rows, filters, endpoints."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from re import Pattern
from typing import Any, Literal

from connector.sandbox.account import JSON_TYPE, Switches, includes, text_answer
from connector.sandbox.rows import DAY, Fields, Row, iso, seconds
from connector.sandbox.server import Answer, Request
from connector.sandbox.world import World

# The kind of each parameter of an endpoint, and after a colon the plan that it needs.
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
    """A parameter that the reference does not allow, with the status of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def check_value(kind: str, name: str, value: str) -> None:
    """Refuse a value that is not of its kind."""
    if kind == "date":
        parse_date(name, value)
    elif kind == "boolean" and value.lower() not in ("true", "false"):
        raise BadParameter(400, f"The parameter {name} must be a boolean.")
    elif kind in ("integer", "size", "page"):
        _check_integer(name, value, {"size": 1, "page": 0}.get(kind))


def _check_integer(name: str, value: str, least: int | None) -> None:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (least is not None and int(value) < least):
        raise BadParameter(400, f"The parameter {name} is not valid.")


def parse_date(name: str, value: str) -> float:
    """Return a date in ISO 8601 as epoch seconds; UTC if it has no time zone."""
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise BadParameter(400, f"The parameter {name} must follow the ISO-8601 format.") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def is_true(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() == "true"


COUNTERS = {
    "posts": ("feedbacks", "positiveReactions", "neutralReactions", "negativeReactions"),
    "feature_requests": ("votesCount", "commentsCount"),
}
METRICS = ("views", "uniqueViews", "clicks")
ALWAYS_NATIVE = {"score", "votesCount", "userCustomAttributes"}
NATIVE_NUMBERS = {"views", "uniqueViews", "clicks", "commentsCount", *COUNTERS["posts"]}
NATIVE_BOOLEANS = {
    *("published", "pinned", "showInWidget", "showInStandalone", "autoOpen", "feedbackEnabled"),
    *("reactionsEnabled", "visible", "actionComment", "archived"),
}


def render(row: Row, world: World, switches: Switches) -> bytes:
    """Return the JSON of a row; it is cached until something in it changes."""
    counts = _counts(row, world, switches)
    text_missing = switches.nps_text_later and row.text_s > world.now
    key = (row.version, counts, text_missing, switches.native_types)
    if row.cache and row.cache[0] == key:
        return row.cache[1]
    fields: Fields = {"id": row.id, "date": iso(row.date_s), **row.fields}
    if row.stream in COUNTERS:
        counters = _by_name(row.stream, counts)
        # A counter among the fields is shown as it is, even if it is wrong; metrics continue from it.
        fields = {**counters, **fields, **{name: counters[name] for name in METRICS if name in counters}}
    if text_missing:
        fields["feedback"] = ""
    shown = {name: _shown(name, value, row.stream, switches.native_types) for name, value in fields.items()}
    body = json.dumps(shown, ensure_ascii=False).encode()
    row.cache = (key, body)
    return body


def _counts(row: Row, world: World, switches: Switches) -> tuple[int, ...]:
    if row.stream not in COUNTERS:
        return ()
    time = world.now - switches.counters_lag.total_seconds()
    counters = (world.counter(name, row.id) for name in COUNTERS[row.stream])
    ignore = switches.counters_ignore_deletions
    counts = tuple(counter.at(time, ignore_deletions=ignore) if counter else 0 for counter in counters)
    return counts + _metrics(row, world) if row.stream == "posts" else counts


def _metrics(row: Row, world: World) -> tuple[int, ...]:
    now = min(world.now, world.start) if world.company.still else world.now
    days = max(0.0, (now - row.starts_s) / DAY) if row.appeal else 0.0
    views = int(row.appeal * (400 * (1 - 2 ** (-days / 3)) + 0.5 * days))
    generated = zip(METRICS, (views, views * 4 // 5, views // 3), strict=True)
    views, unique, clicks = (int(row.fields.get(name, value)) for name, value in generated)
    return views + row.reads, unique + row.reads, clicks


def _by_name(stream: str, counts: tuple[int, ...]) -> Fields:
    names = COUNTERS[stream] + (METRICS if stream == "posts" else ())
    return dict(zip(names, counts, strict=True))


def _shown(name: str, value: Any, stream: str, native: bool) -> Any:
    if native:
        return _native(name, value, stream)
    if name in ALWAYS_NATIVE or not isinstance(value, bool | int):
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


# Parameters that do not decide about single rows.
NOT_FILTERS = {
    *("dateFrom", "dateTo", "maxResults", "page", "saveViews", "traceableLinks", "ignoreRequestDetails"),
    *("userFirstName", "userLastName", "userEmail"),
}
Filter = Callable[[Row], bool]
TEXT_FILTERS = ("category", "status", "reaction", "filters")
# By name, the value of a row without this field.
BOOLEAN_FILTERS = {"published": "true", "archived": "false", "visible": "true"}


def filter_key(params: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the parameters that decide which rows pass."""
    return tuple(sorted((name, value) for name, value in params.items() if name not in NOT_FILTERS))


def row_filter(stream: str, params: Mapping[str, str], now: float) -> Filter:
    """Return whether a row passes the parameters of a request, as a function."""
    filters: list[Filter] = [lambda row: not row.hidden]
    if stream == "posts" and not is_true(params, "ignoreFilters"):
        filters.append(lambda row: _in_segment(row, params.get("filter", ""), params.get("forceFilter", "")))
    for name, value in params.items():
        passes = _filter(name, value.lower(), now)
        if passes:
            filters.append(passes)
    return lambda row: all(passes(row) for passes in filters)


def _in_segment(row: Row, segment: str, forced: str) -> bool:
    segments = [name for name in str(row.fields.get("filter") or "").split(";") if name]
    if forced:
        return forced in segments
    return not segments or segment in segments


def _filter(name: str, value: str, now: float) -> Filter | None:
    if name in TEXT_FILTERS:
        return lambda row: str(row.fields.get(name, "")).lower() == value
    if name in BOOLEAN_FILTERS:
        return lambda row: str(row.fields.get(name, BOOLEAN_FILTERS[name])).lower() == value
    if name == "expired":
        return lambda row: str(_expired(row, now)).lower() == value
    if name == "search":
        return lambda row: value in _texts(row).lower()
    if name == "language":
        return lambda row: value in _languages(row)
    if name in ("scoreFrom", "scoreTo"):
        sign = 1 if name == "scoreFrom" else -1
        return lambda row: sign * int(row.fields["score"]) >= sign * int(value)
    return None


def _expired(row: Row, now: float) -> bool:
    due = row.fields.get("dueDate")
    return seconds(due) < now if due else False


def _texts(row: Row) -> str:
    return " ".join(str(row.fields.get(name) or "") for name in ("text", "feedback")) + row.title


def _languages(row: Row) -> list[str]:
    translations = row.fields.get("translations")
    return [translation["language"].lower() for translation in translations] if translations else ["en"]


Action = Literal["list", "count", "get", "ping", "url"]


@dataclass(frozen=True)
class Endpoint:
    """One path, and its answers."""

    pattern: Pattern[str]
    action: Action
    stream: str
    parent: str
    parameters: Mapping[str, str]
    cap: int = 10
    plan: str = "free"
    method: str = "GET"


def _pattern(path: str) -> Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def _endpoints(
    path: str, stream: str, shared: Kinds, *, parent: str = "", count: Kinds | None = None
) -> tuple[Endpoint, ...]:
    return (
        Endpoint(_pattern(path), "list", stream, parent, {**shared, **PAGES}),
        Endpoint(_pattern(f"{path}/count"), "count", stream, parent, shared if count is None else count),
        Endpoint(_pattern(f"{path}/{{id}}"), "get", stream, parent, {}),
    )


_TEXT_PARAMETERS: Kinds = {**DATES, "language": "text", "search": "text"}
_REQUEST_PARAMETERS: Kinds = {
    **_TEXT_PARAMETERS,
    "filters": "text:pro",
    "category": "text",
    "status": "text",
    "visible": "boolean",
}
_REQUEST_PATH = "/requests/{parent}"
_POST_PARAMETERS: Kinds = {**VIEWER, "traceableLinks": "boolean", "ignoreRequestDetails": "boolean"}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _pattern("/posts"),
        "list",
        "posts",
        "",
        {
            **POSTS,
            **_POST_PARAMETERS,
            **PAGES,
            "language": "text",
            "expired": "boolean:starter",
            "saveViews": "boolean",
        },
    ),
    Endpoint(
        _pattern("/posts/count"),
        "count",
        "posts",
        "",
        {**POSTS, "language": "text:starter", "expired": "boolean", "userId": "text"},
    ),
    Endpoint(_pattern("/posts/{id}"), "get", "posts", "", {**_POST_PARAMETERS, "language": "text"}),
    *_endpoints("/posts/{parent}/comments", "comments", _TEXT_PARAMETERS, parent="posts"),
    *_endpoints("/posts/{parent}/reactions", "reactions", {**DATES, "reaction": "text"}, parent="posts"),
    *_endpoints("/requests", "feature_requests", _REQUEST_PARAMETERS),
    *_endpoints(
        f"{_REQUEST_PATH}/comments",
        "feature_request_comments",
        {**_TEXT_PARAMETERS, "visible": "boolean"},
        parent="feature_requests",
    ),
    *_endpoints(
        f"{_REQUEST_PATH}/votes", "feature_request_votes", DATES, parent="feature_requests", count={}
    ),
    Endpoint(_pattern("/nps"), "list", "nps", "", {**DATES, **SCORES, **PAGES}, 100),
    Endpoint(_pattern("/nps/count"), "count", "nps", "", {**DATES, **SCORES}),
    Endpoint(
        _pattern("/users"),
        "list",
        "users",
        "",
        {"userId": "text", "beamerId": "text", "userEmail": "text", "sort": "text", **PAGES},
        100,
        "scale",
    ),
    Endpoint(
        _pattern("/url"),
        "url",
        "url",
        "",
        {
            **VIEWER,
            "language": "text:starter",
            "filterByUrl": "boolean:pro",
            "filter": "text:pro",
            "forceFilter": "text:pro",
            "theme": "text:pro",
        },
    ),
    Endpoint(_pattern("/ping"), "ping", "ping", "", {}, method="POST"),
)


_RESOURCE = re.compile(r"/(posts|requests|nps|users|url|ping)(?:/|$)")


def api_path(path: str) -> str:
    """Return a path without the prefix of the base URL."""
    match = _RESOURCE.search(path)
    return path[match.start() :].rstrip("/") if match else path


def route(path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """Return the endpoint of a path and the ids in the path."""
    for endpoint in ENDPOINTS:
        if match := endpoint.pattern.fullmatch(path):
            return endpoint, match.groupdict()
    return None


NOUNS = {"posts": "Post", "feature_requests": "Feature request", "nps": "Response"}
FORBIDDEN = "Not allowed to access this resource."


class BeamerApi:
    """Answers the requests that the account does not refuse."""

    def __init__(self, world: World, switches: Switches, plan: str) -> None:
        self.world = world
        self.switches = switches
        self.plan = plan

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request, errors included."""
        routed = route(api_path(request.path))
        if routed is None:
            return text_answer(404, "Not found.")
        endpoint, ids = routed
        if request.method != endpoint.method:
            return text_answer(405, "This method is not allowed on this resource.")
        try:
            self._check(endpoint, request)
            return Answer(200, self._body(endpoint, ids, request), dict(JSON_TYPE))
        except BadParameter as error:
            return text_answer(error.status, error.text)

    def _check(self, endpoint: Endpoint, request: Request) -> None:
        if endpoint.stream not in self.switches.may_read or not includes(self.plan, endpoint.plan):
            raise BadParameter(403, FORBIDDEN)
        for name, value in request.params.items():
            kind, _, plan = endpoint.parameters.get(name, "").partition(":")
            if not kind and self.switches.strict_parameters:
                raise BadParameter(400, f"Unknown parameter {name}.")
            if not includes(self.plan, plan or "free"):
                raise BadParameter(403, f"The parameter {name} is only available on another plan.")
            check_value(kind, name, value)
        if is_true(request.params, "ignoreFilters") and not self.switches.ignore_filters_allowed:
            raise BadParameter(403, "The API key has no permission to ignore filters.")

    def _body(self, endpoint: Endpoint, ids: dict[str, str], request: Request) -> bytes:
        if endpoint.action == "ping":
            return b'{"name": "Sandbox"}'
        if endpoint.action == "url":
            return json.dumps({"url": f"https://company-{self.world.company.seed}.beamer.example/"}).encode()
        if endpoint.stream == "users":
            return self._users(endpoint, request)
        parent = self._row(endpoint.parent, ids["parent"]).id if endpoint.parent else None
        if endpoint.action == "get":
            row = self._row(endpoint.stream, ids["id"])
            if row.parent_id != parent:
                raise BadParameter(404, "Not found.")
            return self._render([row], viewed=endpoint.stream == "posts")[0]
        rows = self._rows(endpoint, parent, request)
        if endpoint.action == "count":
            return b'{"count": %d}' % len(rows)
        viewed = endpoint.stream == "posts" and request.params.get("saveViews", "").lower() != "false"
        return b"[" + b", ".join(self._render(self._page(endpoint, rows, request), viewed=viewed)) + b"]"

    def _row(self, stream: str, row_id: str) -> Row:
        if stream != "nps" and not row_id.isdigit():
            raise BadParameter(400, "The id must be an integer.")
        row = self.world.find(stream, row_id)
        if row is None:
            raise BadParameter(404, f"{NOUNS.get(stream, 'Row')} not found.")
        return row

    def _rows(self, endpoint: Endpoint, parent: str | None, request: Request) -> Sequence[Row]:
        switches, params = self.switches, request.params
        row_list = self.world.row_list(endpoint.stream, parent)
        after = parse_date("dateFrom", params["dateFrom"]) if "dateFrom" in params else float("-inf")
        before = parse_date("dateTo", params["dateTo"]) if "dateTo" in params else self.world.now
        span = row_list.span(
            after,
            before,
            from_inclusive=switches.date_from_inclusive,
            to_inclusive=switches.date_to_inclusive or "dateTo" not in params,
        )
        rows = row_list.ordered(span, switches.order, switches.pinned_first and endpoint.stream == "posts")
        if endpoint.parent and switches.lists_lag:
            newest = self.world.now - switches.lists_lag.total_seconds()
            rows = [row for row in rows if row.appears_s <= newest]
        if switches.filters_after_page if endpoint.action == "list" else switches.unfiltered_count:
            return rows
        cache_key = (span, switches.order, switches.pinned_first, len(rows))
        return self._filtered(endpoint, rows, request, cache_key)

    def _filtered(
        self, endpoint: Endpoint, rows: Sequence[Row], request: Request, cache_key: object
    ) -> Sequence[Row]:
        key = filter_key(request.params)
        if not key and endpoint.stream != "posts" and not self.world.has_hidden:
            return rows
        parent = rows[0].parent_id if rows else None
        now = self.world.now if "expired" in request.params else None
        passes = row_filter(endpoint.stream, request.params, self.world.now)
        return self.world.row_list(endpoint.stream, parent).filtered((cache_key, key, now), rows, passes)

    def _page(self, endpoint: Endpoint, rows: Sequence[Row], request: Request) -> Sequence[Row]:
        size = min(endpoint.cap, int(request.params.get("maxResults", endpoint.cap)))
        size = max(min(size, 2), int(size * self.switches.page_share))
        first = self.switches.first_page
        page = max(0, int(request.params.get("page", first)) - first)
        page_rows = rows[page * size : (page + 1) * size]
        if not self.switches.filters_after_page:
            return page_rows
        passes = row_filter(endpoint.stream, request.params, self.world.now)
        return [row for row in page_rows if passes(row)]

    def _render(self, rows: Sequence[Row], *, viewed: bool) -> list[bytes]:
        bodies = [render(row, self.world, self.switches) for row in rows]
        for row in rows if viewed else ():
            self.world.count_view(row)
        return bodies

    def _users(self, endpoint: Endpoint, request: Request) -> bytes:
        filters = {
            name: request.params[name]
            for name in ("userId", "beamerId", "userEmail")
            if name in request.params
        }
        users = [
            user
            for user in self.world.users()
            if all(str(user.get(name) or "") == value for name, value in filters.items())
        ]
        # ISO dates in one zone are in order as texts, too.
        sort = request.params.get("sort", "firstSeen")
        users.sort(key=lambda user: str(user.get(sort.lstrip("-")) or ""), reverse=sort.startswith("-"))
        size = min(endpoint.cap, int(request.params.get("maxResults", endpoint.cap)))
        page = max(0, int(request.params.get("page", self.switches.first_page)) - self.switches.first_page)
        return json.dumps(users[page * size : (page + 1) * size], ensure_ascii=False).encode()

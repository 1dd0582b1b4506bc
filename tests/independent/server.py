"""Beamer and Segment on loopback, by a plain reading of their references and of nothing else."""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tests.independent.account import Account, FeatureRequest, Post, Row

BEAMER_KEY = "b_independent"
WRITE_KEY = "w_independent"

R = TypeVar("R", bound=Row)
Order = Literal["newest", "oldest"]
Bounds = Literal["inclusive", "exclusive"]

BAD_KEY = "The API key is invalid."
BAD_PARAMETER = "Some parameter is missing or doesn't follow the API specification."
NO_METHOD = "This method is not allowed on this resource."
NOT_FOUND = "Not found."


@dataclass(frozen=True)
class Habits:
    """What the reference leaves open."""

    order: Order = "newest"
    bounds: Bounds = "inclusive"
    first_page: int = 0


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]


class Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


# --- Beamer -----------------------------------------------------------------------------------------------

VIEWER = {"userFirstName", "userLastName", "userEmail", "userId"}
DATES = {"dateFrom", "dateTo"}
PAGES = {"maxResults", "page"}
POST_FILTERS = {
    *{"filter", "forceFilter", "filterUrl", "language", "category", "published", "archived", "expired"},
    *{"filterByUserId", "ignoreFilters", "userId"},
}
REQUEST_FILTERS = {"filters", "language", "category", "status", "visible", "search"}
POST_VIEW = VIEWER | {"language", "traceableLinks", "ignoreRequestDetails"}

# Every parameter that the reference names, by the path's shape.
DOCUMENTED: dict[str, set[str]] = {
    "/posts": POST_FILTERS | DATES | PAGES | POST_VIEW | {"saveViews"},
    "/posts/count": POST_FILTERS | DATES,
    "/posts/*": POST_VIEW,
    "/posts/*/comments": DATES | PAGES | {"language", "search"},
    "/posts/*/comments/count": DATES | {"language", "search"},
    "/posts/*/reactions": DATES | PAGES | {"reaction"},
    "/posts/*/reactions/count": DATES | {"reaction"},
    "/requests": REQUEST_FILTERS | DATES | PAGES,
    "/requests/count": REQUEST_FILTERS | DATES,
    "/requests/*": set(),
    "/requests/*/comments": DATES | PAGES | {"visible", "language", "search"},
    "/requests/*/comments/count": DATES | {"visible", "language", "search"},
    "/requests/*/votes": DATES | PAGES,
    "/requests/*/votes/count": set(),
    "/nps": DATES | PAGES | {"scoreFrom", "scoreTo", "search"},
    "/nps/count": DATES | {"scoreFrom", "scoreTo", "search"},
}


def shape_of(path: str) -> str:
    """A path with its ids as stars."""
    return re.sub(r"(?<=/)\d+(?=/|$)", "*", path)


class Beamer:
    """The account behind the API, and a log of what was asked."""

    def __init__(self, account: Account, habits: Habits | None = None) -> None:
        self.account = account
        self.habits = habits or Habits()
        self.log: list[Asked] = []
        self._lock = Lock()

    def answer(self, method: str, path: str, query: dict[str, str], key: str | None) -> tuple[int, Any]:
        with self._lock:
            self.log.append(Asked(method, path, query))
            try:
                if key != BEAMER_KEY:
                    raise Refused(401, BAD_KEY)
                if shape_of(path) not in DOCUMENTED:
                    raise Refused(404, NOT_FOUND)
                if method != "GET":
                    raise Refused(405, NO_METHOD)
                return 200, self._get(path.strip("/").split("/"), query)
            except Refused as refused:
                return refused.status, str(refused)

    def _get(self, parts: list[str], query: dict[str, str]) -> Any:
        match parts:
            case ["nps", *rest]:
                return self._list(self.account.nps, nps_filter(query), rest, query, cap=100)
            case ["posts"]:
                posts = self._page(self.account.posts, post_filter(query), query, cap=10)
                if boolean(query, "saveViews") is not False:
                    view(posts)
                return [post.render() for post in posts]
            case ["posts", "count"]:
                return self._list(self.account.posts, post_filter(query), ["count"], query)
            case ["requests", *rest] if rest in ([], ["count"]):
                return self._list(self.account.requests, request_filter(query), rest, query)
            case ["posts", number]:
                post = find(self.account.posts, number)
                view([post])  # there is no saveViews here to say otherwise
                return post.render()
            case ["requests", number]:
                return find(self.account.requests, number).render()
            case ["posts", number, kind, *rest]:
                post = find(self.account.posts, number)
                rows = post.comments if kind == "comments" else post.reactions
            case ["requests", number, kind, *rest]:
                request = find(self.account.requests, number)
                rows = request.comments if kind == "comments" else request.votes
            case _:
                raise Refused(404, NOT_FOUND)
        return self._list(rows, child_filter(query), rest, query)

    def _list(
        self,
        rows: Sequence[R],
        wanted: Callable[[R], bool],
        rest: list[str],
        query: dict[str, str],
        cap: int = 10,
    ) -> Any:
        if rest == ["count"]:
            return {"count": len(self._chosen(rows, wanted, query))}
        return [row.render() for row in self._page(rows, wanted, query, cap)]

    def _chosen(self, rows: Sequence[R], wanted: Callable[[R], bool], query: dict[str, str]) -> list[R]:
        after = moment(query, "dateFrom")
        before = moment(query, "dateTo") or datetime.now(UTC)
        inclusive = self.habits.bounds == "inclusive"

        def within(date: datetime) -> bool:
            if inclusive:
                return (after is None or after <= date) and date <= before
            return (after is None or after < date) and date < before

        chosen = [row for row in rows if within(row.date) and wanted(row)]
        return sorted(
            chosen, key=lambda row: (row.date, int(row.id, 16)), reverse=self.habits.order == "newest"
        )

    def _page(
        self, rows: Sequence[R], wanted: Callable[[R], bool], query: dict[str, str], cap: int
    ) -> list[R]:
        chosen = self._chosen(rows, wanted, query)
        size = min(whole(query, "maxResults", 10, least=1), cap)
        first = self.habits.first_page
        page = whole(query, "page", first, least=first) - first
        return chosen[page * size : (page + 1) * size]


def view(posts: Sequence[Post]) -> None:
    for post in posts:
        post.views += 1


def find(rows: Sequence[R], number: str) -> R:
    for row in rows:
        if row.id == number:
            return row
    raise Refused(404, NOT_FOUND)


# --- parameters -------------------------------------------------------------------------------------------


def whole(query: dict[str, str], name: str, default: int, least: int = 0) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < least:
        raise Refused(400, BAD_PARAMETER)
    return int(text)


def boolean(query: dict[str, str], name: str) -> bool | None:
    text = query.get(name)
    if text is None:
        return None
    if text not in ("true", "false"):
        raise Refused(400, BAD_PARAMETER)
    return text == "true"


def moment(query: dict[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, BAD_PARAMETER) from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def post_filter(query: dict[str, str]) -> Callable[[Post], bool]:
    published, ignore = boolean(query, "published"), boolean(query, "ignoreFilters")
    archived, expired = boolean(query, "archived"), boolean(query, "expired")
    segments = {query.get("filter"), query.get("forceFilter")}

    def wanted(post: Post) -> bool:
        body = post.body
        if published is not None and body["published"] != json.dumps(published):
            return False
        if archived or expired:  # no post of this account is either
            return False
        if body.get("filter") and not ignore and body["filter"] not in segments:
            return False
        if "category" in query and body["category"] != query["category"]:
            return False
        return speaks(post, query)

    return wanted


def request_filter(query: dict[str, str]) -> Callable[[FeatureRequest], bool]:
    visible = boolean(query, "visible")

    def wanted(request: FeatureRequest) -> bool:
        body = request.body
        if visible is not None and body["visible"] != json.dumps(visible):
            return False
        if any(name in query and body[name] != query[name] for name in ("category", "status")):
            return False
        first = body["translations"][0]
        return speaks(request, query) and query.get("search", "") in first["title"] + first["content"]

    return wanted


def child_filter(query: dict[str, str]) -> Callable[[Row], bool]:
    visible = boolean(query, "visible")

    def wanted(row: Row) -> bool:
        if visible is not None and row.body["visible"] != json.dumps(visible):
            return False
        if "reaction" in query and row.body["reaction"] != query["reaction"]:
            return False
        return query.get("search", "") in row.body.get("text", "")

    return wanted


def nps_filter(query: dict[str, str]) -> Callable[[Row], bool]:
    least, most = whole(query, "scoreFrom", 0), whole(query, "scoreTo", 10)
    search = query.get("search", "")
    return lambda row: least <= row.body["score"] <= most and search in row.body.get("feedback", "")


def speaks(parent: Row, query: dict[str, str]) -> bool:
    languages = {translation["language"] for translation in parent.body["translations"]}
    return "language" not in query or query["language"].upper() in languages


# --- Segment ----------------------------------------------------------------------------------------------

BATCH_BYTES = 500_000
MESSAGE_BYTES = 32_000
BATCH_MESSAGES = 2_500


class Segment:
    """Takes batches and keeps every message in the order of arrival."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self._lock = Lock()

    def messages(self) -> list[dict[str, Any]]:
        """What Segment would keep: the first message of each messageId."""
        first: dict[str, dict[str, Any]] = {}
        for message in self.received:
            first.setdefault(message["messageId"], message)
        return list(first.values())

    def answer(
        self, method: str, path: str, authorization: str, encoding: str, body: bytes
    ) -> tuple[int, Any]:
        try:
            if (method, path) != ("POST", "/v1/batch"):
                raise Refused(404, f"{method} {path}")
            self._take(authorization, encoding, body)
        except Refused as refused:
            self.refusals.append(f"{refused.status} {refused}")
            return refused.status, {"success": False, "message": str(refused)}
        return 200, {"success": True}

    def _take(self, authorization: str, encoding: str, body: bytes) -> None:
        scheme, _, credentials = authorization.partition(" ")
        if scheme != "Basic" or b64decode(credentials).decode() != f"{WRITE_KEY}:":
            raise Refused(401, "the write key does not fit")
        try:
            text = gzip.decompress(body) if encoding == "gzip" else body
            batch = json.loads(text)["batch"]
        except (OSError, ValueError, KeyError) as problem:
            raise Refused(400, f"not a batch: {problem!r}") from problem
        if len(text) > BATCH_BYTES or len(batch) > BATCH_MESSAGES:
            raise Refused(400, "the batch is too large")
        if any(len(json.dumps(message)) > MESSAGE_BYTES for message in batch):
            raise Refused(400, "a message is too large")
        with self._lock:
            self.received.extend(batch)


# --- HTTP -------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.reply(body)
        data = json.dumps(answer, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json;charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reply(self, body: bytes) -> tuple[int, Any]:
        raise NotImplementedError

    def log_message(self, format: str, *args: Any) -> None:
        """Not on stderr."""


for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
    setattr(Handler, f"do_{method}", Handler.serve)


@contextmanager
def listening(handler: type[Handler]) -> Iterator[str]:
    """A server in a thread; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(beamer: Beamer, segment: Segment) -> Iterator[tuple[str, str]]:
    """Both sides; gives BEAMER_BASE_URL and SEGMENT_HOST."""

    class BeamerHandler(Handler):
        def reply(self, body: bytes) -> tuple[int, Any]:  # noqa: ARG002
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            path = url.path.removeprefix("/v0") if url.path.startswith("/v0/") else "/?" + url.path
            return beamer.answer(self.command, path, query, self.headers.get("Beamer-Api-Key"))

    class SegmentHandler(Handler):
        def reply(self, body: bytes) -> tuple[int, Any]:
            authorization = self.headers.get("Authorization", "")
            encoding = self.headers.get("Content-Encoding", "")
            return segment.answer(self.command, self.path, authorization, encoding, body)

    with listening(BeamerHandler) as beamer_url, listening(SegmentHandler) as segment_url:
        yield f"{beamer_url}/v0", segment_url

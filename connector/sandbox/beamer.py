"""The Beamer API: from a routed request to its rows."""

import json
from collections.abc import Sequence

from connector.sandbox import hiding
from connector.sandbox.endpoints import Endpoint, route, trimmed
from connector.sandbox.message import Answer, Request
from connector.sandbox.parameters import BadParameter, check, date, is_true
from connector.sandbox.plans import reaches
from connector.sandbox.rendering import render
from connector.sandbox.row import Row
from connector.sandbox.switches import Switches
from connector.sandbox.world import World

TYPE = {"Content-Type": "application/json;charset=utf-8"}
NOUNS = {"posts": "Post", "feature_requests": "Feature request", "nps": "Response"}
FORBIDDEN = "Not allowed to access this resource."


def said(status: int, text: str) -> Answer:
    """A bare JSON string, which is how Beamer words its errors."""
    return Answer(status, json.dumps(text).encode(), dict(TYPE))


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
        if switches.filters_after_page if endpoint.act == "list" else switches.unfiltered_count:
            return rows
        return self._kept(endpoint, rows, request, (span, switches.order, switches.pinned_first))

    def _kept(
        self, endpoint: Endpoint, rows: Sequence[Row], request: Request, place: object
    ) -> Sequence[Row]:
        key = hiding.key(request.params)
        if not key and endpoint.stream != "posts" and not self.world.hides:
            return rows
        parent = rows[0].parent_id if rows else None
        moment = self.world.now if "expired" in request.params else None
        keep = hiding.keeps(endpoint.stream, request.params, self.world.now)
        return self.world.shelf(endpoint.stream, parent).kept((place, key, moment), rows, keep)

    def _page(self, endpoint: Endpoint, rows: Sequence[Row], request: Request) -> Sequence[Row]:
        size = min(endpoint.cap, int(request.params.get("maxResults", endpoint.cap)))
        first = self.switches.first_page
        page = max(0, int(request.params.get("page", first)) - first)
        cut = rows[page * size : (page + 1) * size]
        if not self.switches.filters_after_page:
            return cut
        keep = hiding.keeps(endpoint.stream, request.params, self.world.now)
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

"""The client of Segment's Public API: what it asks, what it makes of answers, how it fails."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.clock import SystemClock
from connector.errors import ConnectorError
from connector.sandbox.server import Answer, Request, Served
from connector.segment.events import tracking_plan
from connector.segment.plan import compare_plan
from connector.segment.public_api import AT_ONCE, NotProven, PlanSettings, PublicApi, TokenRefused, chunks

TOKEN = "secret-token"  # noqa: S105
T = datetime(2026, 3, 1, 12, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}
Step = Callable[[Request], Answer]


class Clock(SystemClock):
    """Waits are counted, not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class Desk:
    """A server that answers by these steps, and what it was asked."""

    def __init__(self, *steps: Step | Answer) -> None:
        self.steps = list(steps)
        self.asked: list[Request] = []
        self.clock = Clock()

    def handle(self, request: Request) -> Answer:
        self.asked.append(request)
        step = self.steps.pop(0)
        return step if isinstance(step, Answer) else step(request)


Ask = Callable[..., tuple[PublicApi, Desk]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    opened: list[Any] = []

    def start(*steps: Step | Answer) -> tuple[PublicApi, Desk]:
        desk = Desk(*steps)
        served = Served(desk.handle)
        api = PublicApi(TOKEN, served.segment_url, desk.clock)
        opened.extend((api, served))
        return api, desk

    yield start
    for each in opened:
        each.close()


def data(**parts: Any) -> Answer:
    return Answer(200, json.dumps({"data": parts}).encode(), dict(JSON))


def source(source_id: str, *keys: str, **parts: Any) -> dict[str, Any]:
    return {"id": source_id, "slug": source_id, "enabled": True, "writeKeys": list(keys), **parts}


def test_a_source_is_found_by_its_write_key_on_any_page(ask: Ask) -> None:
    api, desk = ask(
        data(sources=[source("a", "k1")], pagination={"current": "x", "next": "MQ=="}),
        data(sources=[source("b", "k2", "k3")], pagination={"current": "y"}),
        data(source=source("b", "k2", "k3", name="B"), trackingPlanId="tp_1"),
    )
    found, visible = api.source_of("k3")
    assert found
    assert visible
    assert (found.id, found.name, found.enabled, found.tracking_plan) == ("b", "B", True, "tp_1")
    assert [request.path for request in desk.asked] == ["/sources", "/sources", "/sources/b"]
    assert dict(desk.asked[1].params) == {"pagination[count]": "200", "pagination[cursor]": "MQ=="}
    assert {request.headers["authorization"] for request in desk.asked} == {f"Bearer {TOKEN}"}
    assert {request.method for request in desk.asked} == {"GET"}


@pytest.mark.parametrize(("keys", "visible"), [((), False), (("other",), True)])
def test_a_key_of_no_source(ask: Ask, keys: tuple[str, ...], visible: bool) -> None:
    api, _ = ask(data(sources=[source("a", *keys)], pagination={"current": "x"}))
    assert api.source_of("k") == (None, visible)


def test_counts_are_asked_by_hour_and_name(ask: Ask) -> None:
    group = {
        "eventName": "Post Commented",
        "total": 7,
        "series": [
            {"time": "2026-03-01T12:00:00.000Z", "count": 7},
            {"time": "2026-03-01T13:00:00Z", "count": 0},
            {"time": "soon", "count": 9},
            {"count": 9},
            None,
        ],
    }
    listed = {"current": "x"}
    api, desk = ask(
        data(source=source("a")),
        data(path="/events/volume", query={}, result=[group], pagination=listed),
        data(total=7, dataset=[group], pagination=listed),
        Answer(403, b"{}", dict(JSON)),
        Answer(404, b"{}", dict(JSON)),
    )
    found = api.source("a")
    assert found
    until = T + timedelta(days=2)
    assert [(each.event, each.hour, each.count) for each in api.received(found, T, until)] == [
        ("Post Commented", T, 7)
    ]
    discarded = api.discarded("filtered-at-source", found, T, until)
    assert discarded
    assert discarded[0].count == 7
    assert [api.discarded("failed-on-ingest", found, T, until) for _ in range(2)] == [None, None]
    assert dict(desk.asked[1].params) == {
        "granularity": "HOUR",
        "startTime": "2026-03-01T12:00:00Z",
        "endTime": "2026-03-03T12:00:00Z",
        "groupBy[0]": "eventName",
        "sourceId[0]": "a",
        "pagination[count]": "200",
    }
    assert desk.asked[2].path == "/delivery-overview/filtered-at-source"


def test_long_ranges_are_asked_in_parts() -> None:
    parts = list(chunks(T, T + timedelta(days=30)))
    assert [last - first for first, last in parts] == [AT_ONCE, AT_ONCE, timedelta(days=2)]
    assert (parts[0][0], parts[-1][1]) == (T, T + timedelta(days=30))


BUSY = Answer(429, b"{}", {"Retry-After": "7", **JSON})


def test_retry_after_is_waited_for(ask: Ask) -> None:
    api, desk = ask(BUSY, Answer(503, b"", {}), data(source=source("a")))
    assert api.source("a")
    assert desk.clock.waits == [7.0, 2.0]


@pytest.mark.parametrize(
    ("steps", "kind", "says"),
    [
        ([BUSY] * 3, NotProven, "answered 429"),
        ([Answer(429, b"{}", {"Retry-After": "3600"})], NotProven, "answered 429"),
        ([Answer(500, b"<html>", {})] * 3, NotProven, "answered 500"),
        ([Answer(401, b"{}", {})], TokenRefused, "refuses the token (401)"),
        ([Answer(403, b"{}", {})], TokenRefused, "refuses the token (403)"),
        ([Answer(302, b"", {"Location": "https://elsewhere.invalid"})], NotProven, "answered 302"),
        ([Answer(200, b"[]", {})], NotProven, "a form that is not known"),
        ([Answer(200, b"[" * 100_000, {})], NotProven, "a form that is not known"),
        ([Answer(200, b'{"data": {"sources": 5}}', {})], NotProven, "a form that is not known"),
        ([Answer(200, b'{"data": {"sources": [{"id": 5}]}}', {})], NotProven, "a form that is not known"),
    ],
)
def test_what_goes_wrong_is_said_without_the_token(
    ask: Ask, steps: list[Answer], kind: type[ConnectorError], says: str
) -> None:
    api, _ = ask(*steps)
    with pytest.raises(kind) as caught:
        api.source_of("k")
    assert says in caught.value.what
    assert TOKEN not in str(caught.value)
    assert caught.value.__context__ is None


def test_pages_without_end_are_left(ask: Ask) -> None:
    page = data(sources=[], pagination={"next": "again"})
    api, desk = ask(*[page] * 60)
    with pytest.raises(NotProven, match="sources without end"):
        api.source_of("k")
    assert len(desk.asked) == 50


# --- the tracking plan ---


def rules(**changes: Any) -> list[dict[str, Any]]:
    """The plan of this version, with these schemas of properties instead; None leaves an event out."""
    found = []
    for rule in tracking_plan()["rules"]:
        name = rule["key"].replace(" ", "_")
        if name in changes and changes[name] is None:
            continue
        if name in changes:
            rule["jsonSchema"]["properties"]["properties"] = changes[name]
        found.append(rule)
    return found


STRICT = PlanSettings(unplanned_blocked=True, violations_blocked=True)
OTHER_TYPE = {"properties": {"comment_id": {"type": "integer"}}}
REQUIRED = {"properties": {}, "required": ["campaign"]}


@pytest.mark.parametrize(
    ("changes", "settings", "blocked", "unknown", "differing"),
    [
        ({}, STRICT, [], [], []),
        ({"Post_Commented": None}, PlanSettings(), [], ["Post Commented"], []),
        ({"Post_Commented": None}, STRICT, ["Post Commented"], [], []),
        ({"Post_Commented": OTHER_TYPE}, STRICT, ["Post Commented"], [], []),
        ({"Post_Commented": OTHER_TYPE}, PlanSettings(), [], [], ["Post Commented"]),
        ({"Post_Commented": REQUIRED}, STRICT, ["Post Commented"], [], []),
        ({"Post_Commented": {"properties": {}}}, STRICT, [], [], ["Post Commented"]),
        ({"Post_Commented": "nonsense"}, STRICT, [], [], ["Post Commented"]),
    ],
)
def test_a_plan_is_compared(
    changes: dict[str, Any],
    settings: PlanSettings,
    blocked: list[str],
    unknown: list[str],
    differing: list[str],
) -> None:
    found = compare_plan(rules(**changes), settings)
    assert (list(found.blocked), list(found.unknown), list(found.differing)) == (blocked, unknown, differing)

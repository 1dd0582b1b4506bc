"""The Segment side: what lands, what vanishes, what is refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from segment.analytics.request import APIError

from connector.sandbox import Company, Request
from tests.sandbox import Sandbox


def track(message_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Post Commented", "userId": "u1", "messageId": message_id, **fields}


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(Company.empty())


def send(
    sandbox: Sandbox, *messages: dict[str, Any], key: str = "sandbox-write-key", gzip: bool = False
) -> Any:
    return sandbox.segment_post(key, gzip=gzip, batch=list(messages))


@pytest.mark.parametrize("gzip", [False, True])
def test_a_batch_lands_in_order(sandbox: Sandbox, gzip: bool) -> None:
    answer = send(sandbox, track("a", timestamp=datetime(2026, 1, 1, tzinfo=UTC)), track("b"), gzip=gzip)
    assert (answer.status_code, answer.json(), answer.history) == (200, {"success": True}, [])
    assert [message["messageId"] for message in sandbox.segment.messages] == ["a", "b"]
    assert sandbox.segment.messages[0]["timestamp"] == "2026-01-01T00:00:00+00:00"


def test_doubles_are_dropped_for_a_day_and_across_sources(sandbox: Sandbox) -> None:
    sandbox.segment.write_keys.add("other")
    send(sandbox, track("a"))
    send(sandbox, track("a"), key="other")
    assert (len(sandbox.segment.messages), len(sandbox.segment.received)) == (1, 2)
    assert len(sandbox.segment.duplicates) == 1
    sandbox.advance(timedelta(hours=23, minutes=59))
    send(sandbox, track("a"))
    assert len(sandbox.segment.messages) == 1
    sandbox.advance(timedelta(minutes=1))
    send(sandbox, track("a"), key="other")
    assert [landed.write_key for landed in sandbox.segment.landed] == ["sandbox-write-key", "other"]


def test_unusable_messages_are_answered_with_success(sandbox: Sandbox) -> None:
    nameless, nobody = track("a", event=""), track("b", userId="")
    assert send(sandbox, nameless, nobody, track("c"), track("d" * 101)).status_code == 200
    reasons = [dropped.reason for dropped in sandbox.segment.dropped]
    assert reasons == ["no event name", "no userId or anonymousId", "messageId too long"]
    assert [message["messageId"] for message in sandbox.segment.messages] == ["c"]


def test_events_for_an_unknown_write_key_vanish(sandbox: Sandbox) -> None:
    assert send(sandbox, track("a"), key="mistyped").status_code == 200
    assert (sandbox.segment.messages, sandbox.segment.dropped[0].reason) == ([], "unknown write key")


@pytest.mark.parametrize(
    "batch",
    [
        [track("a", text="x" * 33_000)],
        [track("a", text="🙂" * 3_000)],
        [track(f"{n}", text="x" * 30_000) for n in range(18)],
        [{"type": "track"}] * 2_501,
    ],
)
def test_too_large_is_refused_whole(sandbox: Sandbox, batch: list[dict[str, Any]]) -> None:
    with pytest.raises(APIError) as refused:
        send(sandbox, *batch)
    error: Any = refused.value
    assert (error.status, error.code) == (400, "invalid_request")
    assert isinstance(error.message, str)
    assert sandbox.segment.received == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'{"writeKey": "sandbox-write-key"}', {}, 400),
        (b'{"batch": []}', {}, 401),
        (b'{"batch": []}', {"authorization": "Basic ?"}, 401),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (b'{"writeKey": "sandbox-write-key", "batch": []}', {}, 200),
    ],
)
def test_bodies_and_keys(sandbox: Sandbox, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = sandbox.handle(Request("segment", "POST", "/v1/batch", {}, headers, body))
    assert answer.status == status
    assert json.loads(answer.body)["success"] is (status == 200)


def test_other_paths_and_methods(sandbox: Sandbox) -> None:
    assert sandbox.handle(Request("segment", "GET", "/v1/batch", {}, {})).status == 405
    assert sandbox.handle(Request("segment", "POST", "/v1/track", {}, {})).status == 404


def test_a_thousand_events_a_second() -> None:
    sandbox = Sandbox(Company.empty(), limiter_clock=lambda: 1.0)
    send(sandbox, *[track(f"a{n}") for n in range(600)])
    with pytest.raises(APIError) as refused:
        send(sandbox, *[track(f"b{n}") for n in range(600)])
    error: Any = refused.value
    assert (error.status, error.response.headers["Retry-After"]) == (429, "1")
    assert len(sandbox.segment.messages) == 600

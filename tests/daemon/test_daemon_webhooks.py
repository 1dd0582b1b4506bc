"""The route for webhooks: who may send what, over a socket; no body gives a 5xx."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.beamer.webhooks import MOST_BYTES, MOST_EVENTS
from connector.clock import SystemClock
from connector.daemon.http import Page, StatusServer
from connector.daemon.webhooks import BURST, Rate, Receiver, Webhooks
from connector.state import hints
from connector.state.engine import Database
from connector.state.leases import this_process

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET, OTHER = "a-secret-of-comments", "a-secret-of-reactions"
COMMENT = {"postTitle": "Dark mode", "text": "Nice", "userId": "u-1"}
JSON = {"Content-Type": "application/json"}
GOOD = {**JSON, "Beamer-Webhook-Secret": SECRET}
BODY = json.dumps([COMMENT]).encode()


@pytest.fixture
def webhooks(database: Database) -> Webhooks:
    streams = ("comments", "nps")
    receivers = {"default": Receiver((SECRET, OTHER), streams), "mute": Receiver((), streams)}
    return Webhooks(receivers, database, SystemClock())


@pytest.fixture
def board(webhooks: Webhooks) -> Iterator[StatusServer]:
    with closing(StatusServer("127.0.0.1:0", {"/x": lambda: Page(b"here\n")}, webhooks=webhooks)) as board:
        yield board


def sent(board: StatusServer, method: str = "POST", path: str = "default", **request: Any) -> httpx.Response:
    url = f"http://127.0.0.1:{board.port}/webhooks/beamer/{path}"
    return httpx.request(method, url, trust_env=False, **{"headers": GOOD, "content": BODY, **request})


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (202, {}),
        (202, {"content": b"[]"}),
        (202, {"content": b'[{"unknown": 1}]'}),
        (202, {"content": b" " * (MOST_BYTES - 2) + b"[]"}),
        (202, {"headers": {**GOOD, "Content-Type": 'application/json; charset="UTF-8"'}}),
        (202, {"headers": {**GOOD, "Content-Encoding": "identity"}}),
        (202, {"headers": {**JSON, "Beamer-Webhook-Secret": OTHER}}),
        (202, {"headers": {**GOOD, "Host": "hooks.example.com"}}),
        (202, {"path": "default?from=beamer"}),
        # Who may.
        (401, {"headers": JSON}),
        (401, {"headers": {**JSON, "Beamer-Webhook-Secret": ""}}),
        (401, {"headers": {**JSON, "Beamer-Webhook-Secret": SECRET + "x"}}),
        (401, {"headers": {**JSON, "Beamer-Webhook-Secret": f"{SECRET} {OTHER}"}}),
        (401, {"headers": {**JSON, "Beamer-Webhook-Secret": "é".encode("latin-1")}}),
        (401, {"path": "unknown"}),
        (401, {"path": "mute"}),
        (401, {"path": ""}),
        (401, {"path": "default/more"}),
        (401, {"path": "x" * 3_000}),
        (401, {"headers": JSON, "content": b" " * 200_000}),
        # How.
        (405, {"method": "GET"}),
        (405, {"method": "HEAD"}),
        (405, {"method": "PUT"}),
        (405, {"method": "DELETE", "path": "unknown"}),
        (405, {"method": "OPTIONS"}),
        (415, {"headers": {**GOOD, "Content-Type": "text/plain"}}),
        (415, {"headers": {"Beamer-Webhook-Secret": SECRET}}),
        (415, {"headers": {**GOOD, "Content-Type": "application/json; charset=utf-16"}}),
        (415, {"headers": {**GOOD, "Content-Encoding": "gzip"}}),
        (411, {"content": iter([BODY])}),
        # How much, and what.
        (413, {"content": b" " * (MOST_BYTES + 1)}),
        (413, {"content": json.dumps([{}] * (MOST_EVENTS + 1)).encode()}),
        (400, {"content": b""}),
        (400, {"content": b"{}"}),
        (400, {"content": b"[" * 900_000}),
        (400, {"content": b"\xff"}),
        (400, {"content": b"[1" + b"0" * 5_000 + b"]"}),
    ],
)
def test_what_is_accepted(board: StatusServer, status: int, request_: dict[str, Any]) -> None:
    answer = sent(board, **request_)
    assert (answer.status_code, answer.content) == (status, b"")
    assert ("Allow" in answer.headers) is (status == 405)
    if status != 202:
        assert httpx.get(f"http://127.0.0.1:{board.port}/x", trust_env=False).text == "here\n"


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "99999999999999999999999", "nonsense"])
def test_a_strange_length_is_refused(board: StatusServer, length: str) -> None:
    head = (
        "POST /webhooks/beamer/default HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Beamer-Webhook-Secret: {SECRET}\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", board.port), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).split()[1] in (b"411", b"413")


def test_a_body_that_ends_early_is_refused(board: StatusServer) -> None:
    head = (
        "POST /webhooks/beamer/default HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Beamer-Webhook-Secret: {SECRET}\r\nContent-Length: 100\r\n\r\n[]"
    )
    with socket.create_connection(("127.0.0.1", board.port), 10) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).split()[1] == b"400"


def test_a_hint_is_stored_before_the_answer(board: StatusServer, database: Database) -> None:
    """Of the streams that are read, one for each event; and while a run holds its lease."""
    from connector.state import leases

    leases.acquire(database, "default", this_process(), SystemClock().now())
    answer = sent(board, content=json.dumps([COMMENT, COMMENT, {"score": 9}, {"reaction": "positive"}]))
    assert answer.status_code == 202
    sums = hints.sums(database, "default")
    assert {stream: each.waiting for stream, each in sums.items()} == {"comments": 2, "nps": 1}
    reaction = {"postTitle": "Dark mode", "reaction": "positive"}
    assert sent(board, content=json.dumps([reaction])).status_code == 202
    assert hints.sums(database, "default") == sums


def test_a_wrong_secret_changes_nothing_but_a_counter(
    board: StatusServer, webhooks: Webhooks, database: Database
) -> None:
    for _ in range(3):
        sent(board, headers={**JSON, "Beamer-Webhook-Secret": "wrong"})
    sent(board, path="unknown")
    assert hints.sums(database, "default") == {}
    assert [(sample.labels, sample.value) for sample in webhooks.samples()] == [
        (("", "401"), 1),
        (("default", "401"), 3),
    ]


def test_a_connection_takes_so_many_a_second(webhooks: Webhooks) -> None:
    headers = {**GOOD, "Content-Length": "2"}
    answers = [
        webhooks.answer("POST", "/webhooks/beamer/default", headers, lambda _: b"{}")
        for _ in range(50 * BURST)
    ]
    assert set(answers) == {400, 429}
    assert answers[:BURST] == [400] * BURST


def test_the_rate() -> None:
    rate = Rate(2, 0.0)
    assert [rate.take() for _ in range(3)] == [True, True, False]
    assert Rate(2, 1e9).take()


def test_without_secrets_there_is_no_route(database: Database) -> None:
    none = Webhooks({"default": Receiver((), ("nps",))}, database, SystemClock())
    assert not none
    with closing(StatusServer("127.0.0.1:0", {}, webhooks=none)) as board:
        assert sent(board).status_code == 501
        assert sent(board, "GET").status_code == 404


def test_elsewhere_nothing_can_be_sent(board: StatusServer) -> None:
    assert httpx.post(f"http://127.0.0.1:{board.port}/x", trust_env=False).status_code == 501


def test_a_database_that_is_away_is_said(board: StatusServer, database: Database) -> None:
    with database.write() as db:
        db.exec_driver_sql("DROP TABLE beamer_segment_hint")
    assert sent(board).status_code in (500, 503)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["POST", "GET", "PATCH"]),
    path=st.text(max_size=60).map(lambda tail: f"/webhooks/beamer/{tail}")
    | st.just("/webhooks/beamer/default"),
    headers=st.dictionaries(
        st.sampled_from(["Content-Type", "Content-Length", "Content-Encoding", "Beamer-Webhook-Secret"]),
        st.text(max_size=30) | st.sampled_from(["application/json", SECRET, "7", "identity"]),
    ),
    body=st.binary(max_size=300) | st.just(BODY),
    right=st.booleans(),
)
def test_no_request_gives_a_5xx(
    webhooks: Webhooks, method: str, path: str, headers: dict[str, str], body: bytes, right: bool
) -> None:
    if right:
        headers = {**GOOD, "Content-Length": str(len(body)), **headers}
    status = webhooks.answer(method, path, headers, lambda size: body[:size])
    assert status in (202, 400, 401, 405, 411, 413, 415, 429)

"""The door: one GET per call, every failure filed by what to do next, nothing private in any of them."""

import gzip
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.beamer.asking import Answer, Ask
from connector.beamer.bodies import LARGEST_ANSWER, parsed
from connector.beamer.door import DEADLINE, TIMEOUT, Beamer
from connector.errors import (
    BadAnswer,
    ConnectorError,
    Forbidden,
    Gone,
    KeyRefused,
    Stopped,
    TooMany,
    Transient,
    Unreachable,
)

KEY = "b_key-that-nobody-may-see"
HOST = "beamer.invalid"
PRIVATE = "jane.doe@example.com"
ASK = Ask("/posts/77/comments", (("maxResults", "10"), ("dateFrom", "2026-01-01T00:00:00Z")))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
PACKED = {"Content-Encoding": "gzip"}

Handler = Callable[[httpx.Request], httpx.Response]


class StillClock:
    """A clock that only waiting moves."""

    def __init__(self, *, stops: bool = False) -> None:
        self.at = NOW
        self.stops = stops
        self.slept: list[float] = []
        self.stopped = False

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.stopped = self.stops


class Chunks(httpx.SyncByteStream):
    """A body in pieces, which may end in an error."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True


def door(handler: Handler, clock: StillClock | None = None, ticks: float = 0.0) -> Beamer:
    """A door whose timer goes on by `ticks` seconds each time it is looked at."""

    def elapsed() -> Callable[[], float]:
        passed = 0.0

        def look() -> float:
            nonlocal passed
            passed += ticks
            return passed

        return look

    transport = httpx.MockTransport(handler)
    return Beamer(KEY, f"https://{HOST}/v0", clock or StillClock(), transport=transport, elapsed=elapsed)


def ask(handler: Handler, **options: Any) -> Answer:
    return door(handler, **options).get(ASK, NOW)


def answering(status: int = 200, content: bytes = b"[]", **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, content=content, headers=named)


def streaming(*pieces: bytes, headers: dict[str, str] | None = None) -> Handler:
    return lambda _: httpx.Response(200, stream=Chunks(*pieces), headers=headers)


def failing(error: Exception) -> Handler:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    return fail


# --- what is sent -------------------------------------------------------------------------------------


def test_one_call_is_one_get_with_the_key_in_its_header() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"[]")

    ask(handler)
    [request] = seen
    assert request.method == "GET"
    assert request.headers["Beamer-Api-Key"] == KEY
    assert request.url.path == "/v0/posts/77/comments"
    assert list(request.url.params.multi_items()) == list(ASK.params)
    assert KEY not in str(request.url)
    assert request.content == b""


def test_it_waits_for_its_moment() -> None:
    clock = StillClock()
    door(answering(), clock).get(ASK, NOW + timedelta(seconds=2.5))
    assert clock.slept == [2.5]


def test_a_stop_while_waiting_sends_nothing() -> None:
    with pytest.raises(Stopped):
        door(failing(AssertionError("sent")), StillClock(stops=True)).get(ASK, NOW)


def test_all_waits_up_to_the_first_byte_fit_into_the_deadline() -> None:
    waits = (TIMEOUT.connect, TIMEOUT.connect, TIMEOUT.write, TIMEOUT.read)  # TCP, then TLS
    assert sum(wait or DEADLINE for wait in waits) <= DEADLINE


# --- statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, Unreachable), (302, Unreachable), (307, Unreachable), (308, Unreachable), (304, Unreachable),
        (400, BadAnswer), (401, KeyRefused), (403, Forbidden), (404, Gone), (405, BadAnswer),
        (408, Transient), (410, BadAnswer), (422, BadAnswer), (429, TooMany), (500, Transient),
        (502, Transient), (503, Transient), (504, Transient), (599, Transient),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "body",
    [b"", b'"The API key is invalid."', b"<html>x</html>", b"\xff\xfe", f'"{PRIVATE}"'.encode()],
)
def test_a_status_says_what_to_do_next(status: int, body: bytes, error: type[ConnectorError]) -> None:
    with pytest.raises(ConnectorError) as caught:
        ask(answering(status, body, Location=f"https://elsewhere.invalid/?k={KEY}"))
    proxy = status == 404 and body.startswith(b"<")
    assert type(caught.value) is (Transient if proxy else error)
    assert str(status) in caught.value.what


def test_a_429_says_whether_the_month_is_gone() -> None:
    with pytest.raises(TooMany, match="the month's limit"):
        ask(answering(429, b'"You have reached your account\'s monthly requests limit."'))
    with pytest.raises(TooMany) as caught:
        ask(answering(429, b'"Slow down"'))
    assert "month" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "after"),
    [
        ("7", 7.0), ("0", 0.0), ("300", 300.0), ("86400", 300.0), ("9" * 400, 300.0), ("", None),
        ("-1", None), ("soon", None), ("٣", None), ("1.5", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_the_server_s_wish_to_wait(status: int, value: str, after: float | None) -> None:
    handler = lambda _: httpx.Response(status, headers=[(b"Retry-After", value.encode())])  # noqa: E731
    with pytest.raises(Transient) as caught:
        ask(handler)
    assert caught.value.after == after


# --- bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"<html><body>Sign in</body></html>", b'[{"id": "1"}, {"id"', b"[", b"\x00", b'{"a": }', b"nil"],
)
def test_a_2xx_that_is_not_json_is_worth_another_attempt(body: bytes) -> None:
    with pytest.raises(Transient, match="not JSON"):
        ask(answering(200, body, Content_Type="application/json"))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"[1, 2]", [1, 2]),
        (b"\xef\xbb\xbf[]", []),
        (b'["\xff"]', ["\ufffd"]),
        (b'["a\tb\x00"]', ["a\tb\x00"]),
        (b"[NaN, Infinity, -Infinity, 1e999, -1e999]", [None] * 5),
        (b"[123456789012345678, 1234567890123456789]", [123456789012345678, "1234567890123456789"]),
        (b"[" + b"9" * 5000 + b"]", ["9" * 5000]),
        (b'"an error in 200"', "an error in 200"),
    ],
)
def test_what_a_body_is_read_as(body: bytes, value: Any) -> None:
    assert ask(answering(200, body)).body == value


def test_a_body_nested_without_end_is_not_asked_for_again() -> None:
    with pytest.raises(BadAnswer, match="nested"):
        ask(answering(200, b"[" * 200_000))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error_with_a_name(body: bytes) -> None:
    try:
        parsed(body)
    except (Transient, BadAnswer):
        return


def test_a_packed_body_is_unpacked() -> None:
    body = json.dumps([{"id": "1"}]).encode()
    assert ask(streaming(gzip.compress(body), headers=PACKED)).body == [{"id": "1"}]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"[]")[:-9], "gzip"),
        (b"[]", "gzip"),
        (gzip.compress(gzip.compress(b"[]")), "gzip, gzip"),
        (b"[]", "br"),
    ],
    ids=["cut short", "not packed", "packed twice", "not asked for"],
)
def test_a_body_that_cannot_be_unpacked_is_worth_another_attempt(body: bytes, encoding: str) -> None:
    with pytest.raises(Transient, match="unpacked"):
        ask(streaming(body, headers={"Content-Encoding": encoding}))


def test_a_packing_that_cannot_be_read_does_not_hide_the_status() -> None:
    with pytest.raises(KeyRefused):
        ask(lambda _: httpx.Response(401, stream=Chunks(b"x"), headers=PACKED))


def test_a_bomb_is_refused_before_it_is_unpacked_whole() -> None:
    bomb = gzip.compress(b"0" * (LARGEST_ANSWER + 1))
    with pytest.raises(BadAnswer, match="larger"):
        ask(streaming(bomb, headers=PACKED))


def test_an_answer_without_end_is_cut_off() -> None:
    body = Chunks(*[b" " * 1024 * 1024] * 100)
    with pytest.raises(BadAnswer, match="larger"):
        ask(lambda _: httpx.Response(200, stream=body))
    assert body.read == 33
    assert body.closed


# --- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, PACKED])
def test_a_body_that_trickles_is_given_up_at_the_deadline(headers: dict[str, str]) -> None:
    body = Chunks(*[b" "] * 100)
    with pytest.raises(Transient, match="30 s"):
        ask(lambda _: httpx.Response(200, stream=body, headers=headers), ticks=7.0)
    assert body.read == 5
    assert body.closed


def test_packing_without_content_does_not_stretch_the_deadline() -> None:
    header = gzip.compress(b"")[:10]
    body = Chunks(header, *[b"\x00\x00\x00\xff\xff"] * 100)
    with pytest.raises(Transient, match="30 s"):
        ask(lambda _: httpx.Response(200, stream=body, headers=PACKED), ticks=7.0)
    assert body.read == 5


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun, 01 Mar 2026 12:00:00 GMT", NOW.replace(hour=12)),
        ("Sun, 01 Mar 2026 12:00:00 +0200", NOW.replace(hour=10)),
        ("Sun, 01 Mar 2026 12:00:00", NOW.replace(hour=12)),
        ("", None), ("yesterday", None), ("Sun, 32 Mar 2026 12:00:00 GMT", None),
        ("Sun, 01 Mar 2026 12:00:00 +9999999999999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None),
    ],
)  # fmt: skip
def test_beamer_s_clock_is_read_where_it_can_be(date: str, expected: datetime | None) -> None:
    assert ask(answering(Date=date)).date == expected


def test_an_answer_without_a_date_is_an_answer() -> None:
    assert ask(answering()).date is None


# --- failed connections and privacy -------------------------------------------------------------------

FAILURES: list[Handler] = [
    failing(httpx.ConnectError(f"https://{HOST}/ {KEY}")),
    failing(httpx.ReadError(PRIVATE)),
    failing(httpx.RemoteProtocolError(PRIVATE)),
    failing(httpx.ProxyError(KEY)),
    failing(httpx.ConnectTimeout(KEY)),
    failing(httpx.ReadTimeout(PRIVATE)),
    failing(httpx.PoolTimeout(KEY)),
    lambda _: httpx.Response(200, stream=Chunks(b"[", error=httpx.ReadError(PRIVATE))),
    lambda _: httpx.Response(200, stream=Chunks(b"[", error=httpx.ReadTimeout(PRIVATE))),
]
ANSWERS: list[Handler] = [
    answering(status, f'"{PRIVATE} {KEY}'.encode(), Location=f"https://elsewhere.invalid/{KEY}")
    for status in (200, 302, 400, 401, 403, 404, 429, 500)
]


@pytest.mark.parametrize("handler", FAILURES)
def test_a_failed_connection_is_worth_another_attempt(handler: Handler) -> None:
    with pytest.raises(Transient):
        ask(handler)


@pytest.mark.parametrize("handler", [*FAILURES, *ANSWERS])
def test_no_failure_shows_a_key_an_address_or_a_body(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectorError) as caught:
        ask(handler)
    error = caught.value
    shown = [str(error), repr(error), *map(str, error.args), caplog.text]
    shown += [line for line in traceback.format_exception(error) if not line.startswith("  File")]
    text = "\n".join(shown)
    assert not [private for private in (KEY, HOST, PRIVATE, "elsewhere", "dateFrom=") if private in text]
    assert error.__context__ is None
    assert error.__cause__ is None


def test_a_good_answer_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = ask(answering(200, f'["{PRIVATE}"]'.encode()))
    assert caplog.text == ""
    assert PRIVATE not in repr(answer)

"""The client: one GET per call, every failure filed by what to do next, nothing private in any of them."""

import gzip
import json
import logging
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.beamer.client import LARGEST_ANSWER, LONGEST_TEXT, TIMEOUT, BeamerClient, parsed
from connector.beamer.pagination import Answer, BeamerRequest
from connector.errors import (
    BadAnswer,
    ConnectorError,
    Declined,
    Forbidden,
    Gone,
    KeyRefused,
    Stopped,
    TooMany,
    Transient,
    Unreachable,
)
from connector.http.exchange import DEADLINE

KEY = "b_key-that-nobody-may-see"
HOST = "beamer.invalid"
PRIVATE = "jane.doe@example.com"
ASK = BeamerRequest("/posts/77/comments", (("maxResults", "10"), ("dateFrom", "2026-01-01T00:00:00Z")))
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


def api(handler: Handler, clock: StillClock | None = None, ticks: float = 0.0) -> BeamerClient:
    """A client whose timer goes on by `ticks` seconds each time it is looked at."""

    def elapsed() -> Callable[[], float]:
        passed = 0.0

        def look() -> float:
            nonlocal passed
            passed += ticks
            return passed

        return look

    transport = httpx.MockTransport(handler)
    return BeamerClient(
        KEY, f"https://{HOST}/v0", clock or StillClock(), transport=transport, elapsed=elapsed
    )


def ask(handler: Handler, **options: Any) -> Answer:
    return api(handler, **options).get(ASK, NOW)


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
    api(answering(), clock).get(ASK, NOW + timedelta(seconds=2.5))
    assert clock.slept == [2.5]


def test_a_stop_while_waiting_sends_nothing() -> None:
    with pytest.raises(Stopped):
        api(failing(AssertionError("sent")), StillClock(stops=True)).get(ASK, NOW)


def test_all_waits_up_to_the_first_byte_fit_into_the_deadline() -> None:
    waits = (TIMEOUT.connect, TIMEOUT.connect, TIMEOUT.write, TIMEOUT.read)  # TCP, then TLS
    assert sum(wait or DEADLINE for wait in waits) <= DEADLINE


# --- statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, Unreachable), (302, Unreachable), (307, Unreachable), (308, Unreachable), (304, Unreachable),
        (400, Declined), (401, KeyRefused), (403, Forbidden), (404, Gone), (405, Declined),
        (408, Transient), (410, Declined), (422, Declined), (429, TooMany), (500, Transient),
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
    proxy = 400 <= status < 500 and body.startswith(b"<")
    assert type(caught.value) is (Transient if proxy else error)
    assert str(status) in caught.value.what


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 429])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><html>Just a moment...</html>", "text/html"),
        (b"\xef\xbb\xbf\r\n <html>", ""),
        (b"", "text/html; charset=UTF-8"),
        (b"<?xml version='1.0'?><Error/>", "application/xml"),
    ],
)
def test_a_page_of_a_gateway_is_not_beamer_s_word(status: int, body: bytes, kind: str) -> None:
    with pytest.raises(Transient) as caught:
        ask(answering(status, body, Content_Type=kind))
    assert type(caught.value) is Transient
    assert caught.value.what == f"A server that is not Beamer answered {status}."


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b'{"message": "Invalid authentication credentials"}', b"[]", b' {"error"'])
def test_an_object_says_nothing_of_the_key(status: int, body: bytes) -> None:
    with pytest.raises(Transient, match="not Beamer"):
        ask(answering(status, body))


def test_a_429_says_whether_the_month_is_gone() -> None:
    with pytest.raises(TooMany, match="monthly limit reached"):
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
        (b"[123456789012345678, 1234567890123456789]", [123456789012345678, 1234567890123456789]),
        (b"[9007199254740993, -12345678901234567890123]", [9007199254740993, -12345678901234567890123]),
        (b"[" + b"9" * 5000 + b"]", [None]),
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


BODY = json.dumps([{"id": "1", "text": "a text that is long enough"}] * 9).encode()


def packed(body: bytes) -> bytes:
    """Without the time, by which the tests would have other names in each process."""
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def in_members(body: bytes, size: int) -> bytes:
    return b"".join(packed(body[at : at + size]) for at in range(0, len(body), size))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (packed(BODY), "gzip"),
        (packed(BODY), "X-GZIP"),
        (in_members(BODY, 300), "gzip"),
        (in_members(BODY, 7), "GZIP"),
        (packed(BODY) + packed(b""), "gzip"),
        (packed(b"") + packed(BODY), "gzip"),
        (packed(BODY) + b"\0" * 9, "gzip"),
        (packed(BODY), "gzip, identity"),
        (packed(BODY), "identity,gzip"),
        (packed(BODY), "utf-8, gzip"),
        (zlib.compress(BODY), "deflate"),
        (raw_deflate(BODY), "deflate"),
        (BODY, "identity, identity"),
        *[(BODY, name) for name in ("none", "utf-8", "UTF8", "iso-8859-1", "windows-1252", "chunked", " , ")],
    ],
)
def test_a_packed_body_is_unpacked(body: bytes, encoding: str) -> None:
    assert ask(streaming(body, headers={"Content-Encoding": encoding})).body == json.loads(BODY)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BODY, "gzip"),
        (BODY, "x-gzip, identity"),
        (b"\r\n " + BODY, "gzip"),
        (BODY.decode().encode("utf-8-sig"), "gzip"),
        (BODY.decode().encode("utf-16"), "gzip"),
        (BODY, "deflate"),
        (BODY, "br"),
        (BODY, "zstd"),
        (BODY, "gzip, gzip"),
    ],
)
def test_a_body_that_is_said_to_be_packed_and_is_not_is_read(body: bytes, encoding: str) -> None:
    assert ask(streaming(body, headers={"Content-Encoding": encoding})).body == json.loads(BODY)


@pytest.mark.parametrize("count", [0, 7, 80, 12_345])
def test_a_bare_count_that_is_said_to_be_packed_is_read_as_it_is(count: int) -> None:
    body = b"%d" % count
    assert ask(streaming(body, headers=PACKED)).body == count
    assert ask(streaming(raw_deflate(body), headers={"Content-Encoding": "deflate"})).body == count


@pytest.mark.parametrize("body", [b"", b"<html>", b"not packed", b'[{"id": "1"'])
def test_a_body_that_is_neither_packed_nor_json_is_worth_another_attempt(body: bytes) -> None:
    with pytest.raises(Transient, match="JSON"):
        ask(streaming(body, headers=PACKED))


def test_many_empty_members_are_gone_through_once() -> None:
    body = packed(b"") * 50_000 + packed(b"[]")
    assert ask(streaming(body, headers=PACKED)).body == []


WORDS = '["caf\u00e9 \u00fc"]'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (WORDS.encode("iso-8859-1"), "application/json;charset=iso-8859-1"),
        (WORDS.encode("iso-8859-1"), 'application/json; Charset="ISO-8859-1"'),
        (WORDS.encode("cp1252"), "application/json; charset=windows-1252"),
        (WORDS.encode("utf-16"), "application/json; charset=utf-16"),
        (WORDS.encode("utf-16-le"), "application/json; charset=utf-16"),
        (WORDS.encode("utf-16-be"), "application/json"),
        (WORDS.encode("utf-32"), "application/json; charset=utf-32"),
        (WORDS.encode("cp437"), "application/json; charset=cp437"),
        (WORDS.encode("utf-8-sig"), "application/json; charset=iso-8859-1"),
        # Some servers declare what their makers had set, whatever they send.
        (WORDS.encode(), "application/json; charset=iso-8859-1"),
        (WORDS.encode(), "application/json; charset=US-ASCII"),
        (WORDS.encode(), "application/json; charset=utf8mb4"),
        (WORDS.encode(), "application/json; charset=punycode"),
        (WORDS.encode(), "application/json; charset=zlib"),
        (WORDS.encode(), ""),
    ],
)
def test_a_body_is_read_by_its_charset(body: bytes, content_type: str) -> None:
    assert ask(answering(200, body, Content_Type=content_type)).body == json.loads(WORDS)


def test_no_content_is_an_empty_list() -> None:
    assert ask(answering(204, b"")).body == []


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"[]")[:-9], "gzip"),
        (gzip.compress(b"[]")[:5], "gzip"),
        (zlib.compress(b"[]")[:-5], "deflate"),
        (gzip.compress(gzip.compress(b"[]")), "gzip, gzip"),
        (b"\x0b\x00\x80[]\x03", "br"),
    ],
    ids=["cut short", "cut in its head", "deflate cut short", "packed twice", "not asked for"],
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


def text_of_rows(count: int) -> bytes:
    return b"[" + b",".join([b"{}"] * count) + b"]"


ASKED = int(dict(ASK.params)["maxResults"])


@pytest.mark.parametrize("rows", [ASKED, 4 * ASKED, 100])
def test_some_more_rows_than_were_asked_for_are_taken(rows: int) -> None:
    assert len(ask(answering(200, text_of_rows(rows))).body) == rows


@pytest.mark.parametrize("rows", [101, 1_000, 49_000, 1_000_000])
def test_many_more_rows_than_were_asked_for_are_no_answer(rows: int) -> None:
    with pytest.raises(BadAnswer, match=r"rows|values"):
        ask(answering(200, text_of_rows(rows)))


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"1," * 3_000_000 + b"1]",
        b"[" + b"[]," * 2_000_000 + b"[]]",
        b'[{"a":' + b"[" * 200 + b"1" + b",1" * 2_000_000 + b"]" * 200 + b"}]",
        b'[{"' + b'":1,"'.join(b"%x" % number for number in range(500_000)) + b'":1}]',
        b'["' + b'","' * 2_000_000 + b'"]',
        b'[{"a":{"b":"' + b'\\"},{' * 10 + b'"}' + b',"c":{}' * 250_001 + b"}]",
    ],
    ids=["numbers", "lists", "deep", "keys", "texts", "quotes"],
)
def test_many_tiny_values_are_refused_before_they_are_made(text: bytes) -> None:
    with pytest.raises(BadAnswer, match="more values"):
        ask(answering(200, text))


@pytest.mark.parametrize("sign", [",", "{", "[", ":", '\\"', "\\\\", "\\u002c"])
def test_signs_in_a_text_are_no_values(sign: str) -> None:
    """A long text is one value, whatever it is made of."""
    text = f'[{{"text": "{sign * 256_000}", "next": "{sign}"}}]'
    assert ask(answering(200, text.encode())).body == json.loads(text)


@pytest.mark.parametrize("sign", ["x", "é", "\U0001f389"])
def test_a_text_of_megabytes_is_cut_wherever_it_stands(sign: str) -> None:
    long, short = sign * (LONGEST_TEXT + 1), sign * 1000
    body = json.dumps([{"id": "1", "text": long, "in": [{"a": long}, short], "n": 7}, None]).encode()
    cut = sign * LONGEST_TEXT
    assert ask(answering(200, body)).body == [
        {"id": "1", "text": cut, "in": [{"a": cut}, short], "n": 7},
        None,
    ]


@pytest.mark.parametrize("text", [b'["' + b'","' * 3_000_000 + b'"]', b"[" + b"1," * 3_000_000 + b"1]"])
def test_values_are_counted_in_place(text: bytes) -> None:
    """A list of all pieces of a text took eight times its memory."""
    tracemalloc.start()
    try:
        with pytest.raises(BadAnswer, match="more values"):
            parsed(text)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 400_000 + b"{}]",
        b"[" * 300_000,
        b"no JSON" * 100_000,
        text_of_rows(101) + b" " * 300_000,
    ],
    ids=["values", "depth", "no JSON", "rows"],
)
def test_an_error_keeps_nothing_of_the_body(body: bytes) -> None:
    """Errors of a round of requests are kept until all have landed: 24 with their bodies took 1.5 GB."""
    with pytest.raises(ConnectorError) as caught:
        ask(answering(200, body))
    kept = [
        value
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if "/connector/" in frame.f_code.co_filename
        for value in frame.f_locals.values()
        if isinstance(value, bytes | str | list) and len(value) > 100
    ]
    assert (kept, caught.value.__context__, caught.value.__cause__) == ([], None, None)


def test_an_answer_without_end_is_cut_off() -> None:
    body = Chunks(*[b" " * 1024 * 1024] * 100)
    with pytest.raises(BadAnswer, match="larger"):
        ask(lambda _: httpx.Response(200, stream=body))
    assert body.read == LARGEST_ANSWER // 1024**2 + 1
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


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Age", "3600")], NOW + timedelta(hours=1)),
        ([("Age", "0")], NOW),
        ([("Age", "-5")], NOW),
        ([("Age", "a day")], NOW),
        ([("Age", "9" * 400)], NOW),
        ([("Date", "Sun, 01 Mar 2026 00:00:00 GMT")], NOW),
        ([("Date", "Mon, 02 Mar 2026 00:00:00 GMT")], None),
    ],
)
def test_an_answer_out_of_a_cache_is_older_than_its_date(
    headers: list[tuple[str, str]], expected: datetime | None
) -> None:
    told = [("Date", "Sun, 01 Mar 2026 00:00:00 GMT"), *headers]
    answer = ask(lambda _: httpx.Response(200, json=[], headers=httpx.Headers(told)))
    assert answer.date == expected


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
def test_no_failure_shows_a_key_a_path_or_a_body(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectorError) as caught:
        ask(handler)
    error = caught.value
    shown = [str(error), repr(error), *map(str, error.args), caplog.text]
    shown += [line for line in traceback.format_exception(error) if not line.startswith("  File")]
    text = "\n".join(shown)
    assert not [private for private in (KEY, "/v0", PRIVATE, "elsewhere", "dateFrom=") if private in text]
    assert error.__context__ is None
    assert error.__cause__ is None


def test_a_good_answer_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = ask(answering(200, f'["{PRIVATE}"]'.encode()))
    assert caplog.text == ""
    assert PRIVATE not in repr(answer)

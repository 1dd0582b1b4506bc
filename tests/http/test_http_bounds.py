"""One deadline and one number of bytes around the whole exchange, against servers that never end."""

import gzip
import socket
import ssl
import zlib
from collections.abc import Callable
from contextlib import closing
from itertools import repeat
from pathlib import Path
from threading import Event, Timer
from time import monotonic

import httpcore
import httpx
import pytest
from structlog.testing import capture_logs

from connector.cli.notify import ping
from connector.http.bounds import Backend, Failed, TooLarge
from connector.http.exchange import exchange, open_client
from connector.segment.client import Session
from tests.http.servers import certificate, serving

pytestmark = pytest.mark.slow

SECONDS = 0.8
MOST = 1_000_000
Serve = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"
CONFIRMED = b'{"success": true}'
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def endless(before: bytes, piece: bytes, pause: float = 0.0) -> Serve:
    """Say the same for ever, at once or now and then; ends when the other side hangs up."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(before)
        waiting = Event()
        for said in repeat(piece):
            connection.sendall(said)
            if pause:
                waiting.wait(pause)

    return serve


PLACES: dict[str, tuple[bytes, bytes]] = {
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "processing": (b"", b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\n"),
    "status": (b"HTTP/1.1 200 O", b"K"),
    "a header": (OK + b"X: ", b"a"),
    "headers": (OK, b"A: b\r\n"),
    "body": (OK + b"Content-Length: 99999999\r\n\r\n", b" "),
    "body without a length": (OK + b"\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "chunk extension": (CHUNKED + b"1;", b"e"),
    "trailers": (CHUNKED + b"2\r\n[]\r\n0\r\n", b"T: t\r\n"),
}


def outcome(url: str, **options: object) -> tuple[Failed, float]:
    began = monotonic()
    with open_client(url, timeout=5.0) as client, pytest.raises(Failed) as caught:
        exchange(client, "GET", url, seconds=SECONDS, most=MOST, **options)  # type: ignore[arg-type]
    return caught.value, monotonic() - began


@pytest.mark.parametrize("place", PLACES)
def test_what_drips_is_given_up_at_the_deadline(place: str) -> None:
    with serving(endless(*PLACES[place], pause=0.05)) as port:
        failure, took = outcome(f"http://127.0.0.1:{port}/")
    assert "not complete after" in failure.describe("Beamer")
    assert (failure.sent, failure.endless) == (True, True)
    assert SECONDS <= took < SECONDS + 3


@pytest.mark.parametrize("place", PLACES)
def test_what_floods_is_cut_off(place: str) -> None:
    before, piece = PLACES[place]
    with serving(endless(before, piece * 10_000)) as port:
        failure, took = outcome(f"http://127.0.0.1:{port}/")
    assert failure.sent
    assert took < SECONDS + 3


@pytest.mark.parametrize("place", ["early hints", "body", "chunks", "trailers"])
def test_no_more_bytes_come_than_may(place: str) -> None:
    before, piece = PLACES[place]
    with (
        serving(endless(before, piece * 10_000)) as port,
        open_client("http://127.0.0.1", timeout=5.0) as client,
        pytest.raises(Failed) as caught,
    ):
        exchange(client, "GET", f"http://127.0.0.1:{port}/", seconds=20.0, most=50_000)
    assert isinstance(caught.value, TooLarge) or place == "trailers"


def test_a_bomb_stays_packed() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    said = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with serving(serve) as port, open_client("http://127.0.0.1", timeout=5.0) as client:
        assert exchange(client, "GET", f"http://127.0.0.1:{port}/", most=MOST).body == bomb


# --- before the request is sent -----------------------------------------------------------------------


def test_a_listener_that_accepts_nothing() -> None:
    """Its queue is full, so that connecting hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        failure, took = outcome(f"http://127.0.0.1:{port}/")
        for filler in fillers:
            filler.close()
    assert "timed out while connecting" in failure.describe("Beamer")
    assert not failure.sent
    assert took < SECONDS + 3


@pytest.mark.parametrize("piece", [b"", b"\x16"])
def test_a_handshake_without_end(piece: bytes) -> None:
    with serving(endless(b"\x16\x03\x03\x40\x00", piece, pause=0.05)) as port:
        failure, took = outcome(f"https://127.0.0.1:{port}/")
    assert "timed out while connecting" in failure.describe("Beamer")
    assert not failure.sent
    assert took < SECONDS + 3


@pytest.mark.parametrize("place", ["early hints", "status", "headers"])
def test_a_proxy_that_drips(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(endless(*PLACES[place], pause=0.05)) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secretword@127.0.0.1:{port}")
        failure, took = outcome("https://beamer.test/")
    describe = failure.describe("Beamer")
    assert describe == f"No connection to the proxy at 127.0.0.1:{port}: timed out while connecting."
    assert (failure.sent, failure.endless) == (False, True)
    assert took < SECONDS + 3


def test_a_body_that_drips_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            endless(*PLACES["body"], pause=0.05)(wrapped)

    with serving(serve) as port:
        failure, took = outcome(f"https://127.0.0.1:{port}/")
    assert "not complete after" in failure.describe("Beamer")
    assert SECONDS <= took < SECONDS + 3


# --- stopping, and what is left behind ----------------------------------------------------------------


def test_a_stop_is_noticed_while_an_answer_drips() -> None:
    stopped = Event()
    with serving(endless(*PLACES["body"], pause=0.05)) as port, open_client("http://127.0.0.1") as client:
        Timer(0.2, stopped.set).start()
        began = monotonic()
        with pytest.raises(Failed):
            exchange(client, "GET", f"http://127.0.0.1:{port}/", seconds=20.0, stopped=stopped.is_set)
        assert monotonic() - began < 4


def test_an_exchange_leaves_its_bounds_to_no_other() -> None:
    with serving(endless(*PLACES["body"], pause=0.05)) as port:
        outcome(f"http://127.0.0.1:{port}/")

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(OK + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n[]")
        assert b"cookie" not in connection.recv(65536).lower()
        connection.sendall(OK + b"Content-Length: 2\r\n\r\n[]")

    with serving(serve) as port, open_client("http://127.0.0.1", timeout=5.0) as client:
        for _ in range(2):
            assert exchange(client, "GET", f"http://127.0.0.1:{port}/").body == b"[]"
        assert not client.cookies


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_every_connection_goes_by_the_bounds(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are hung on is not public: this fails where httpx or httpcore keep it elsewhere."""
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    with open_client("https://127.0.0.1:1") as client:
        transport = client._transport_for_url(httpx.URL("https://127.0.0.1:1"))
        assert isinstance(transport, httpx.HTTPTransport)
        assert isinstance(transport._pool, httpcore.HTTPProxy if proxy else httpcore.ConnectionPool)
        assert isinstance(transport._pool._network_backend, Backend)


# --- Segment and the ping ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_segment_is_waited_for_no_longer(place: str) -> None:
    session = Session(SECONDS)
    with (
        serving(endless(*PLACES[place], pause=0.05)) as port,
        closing(session),
        pytest.raises(Failed) as caught,
    ):
        session.post(f"http://127.0.0.1:{port}/v1/batch", data=b"x", headers={}, timeout=5.0)
    assert caught.value.endless


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_from_segment_is_no_word_of_its(encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    bomb = pack(b" " * 50_000_000)
    said = OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with serving(serve) as port, closing(Session()) as session:
        url = f"http://127.0.0.1:{port}/v1/batch"
        assert session.post(url, data=b"x", headers={}, timeout=5.0).text == ""


def received(connection: socket.socket) -> bytes:
    """A request whose body is one letter; nothing at the end."""
    request = b""
    while not request.endswith(b"\r\n\r\nx") and (piece := connection.recv(65536)):
        request += piece
    return request


def test_no_cookie_of_one_write_key_goes_with_another() -> None:
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while request := received(connection):
            asked.append(request.lower())
            connection.sendall(OK + b"Set-Cookie: a=b; Path=/\r\nContent-Length: 17\r\n\r\n" + CONFIRMED)

    with serving(serve) as port, closing(Session()) as session:
        for key in ("one", "two"):
            headers = {"Authorization": key}
            session.post(f"http://127.0.0.1:{port}/v1/batch", data=b"x", headers=headers, timeout=5.0)
    assert len(asked) >= 2
    assert not [request for request in asked if b"cookie" in request]


@pytest.mark.parametrize("place", PLACES)
def test_a_ping_is_waited_for_no_longer(place: str) -> None:
    with serving(endless(*PLACES[place], pause=0.05)) as port, capture_logs() as logs:
        began = monotonic()
        ping(f"http://127.0.0.1:{port}/secretword", failed=False, seconds=SECONDS)
    assert monotonic() - began < SECONDS + 3
    assert [entry["event"] for entry in logs] == ["ping_failed"]
    assert "secretword" not in str(logs)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/x", "http://[::1/x", "nonsense", "http://\x00/", ""])
def test_whatever_a_ping_fails_by_is_a_warning(url: str) -> None:
    with capture_logs() as logs:
        ping(url, failed=True)
    assert [entry["event"] for entry in logs] == ["ping_failed"]

"""The door against a server on loopback, where sockets matter."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread

import pytest

from connector.beamer.asking import Ask
from connector.beamer.door import Beamer
from connector.clock import SystemClock
from connector.errors import ConfigurationError, Transient, Unreachable

ASK = Ask("/nps", (("maxResults", "100"),))
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

Serve = Callable[[socket.socket, bytes], None]


@contextmanager
def server(serve: Serve) -> Iterator[tuple[str, list[bytes]]]:
    """Hand each connection's request to `serve`, one after the other, and keep what was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536)
                if not request:
                    return
                asked.append(request)
                serve(connection, request)

    thread = Thread(target=loop, daemon=True)
    thread.start()
    host, port = listener.getsockname()
    try:
        yield f"http://{host}:{port}/v0", asked
    finally:
        socket.create_connection((host, port)).close()
        thread.join(5)
        listener.close()


def answer(url: str, elapsed: Callable[[], Callable[[], float]] | None = None) -> object:
    beamer = (
        Beamer("key-1", url, SystemClock(), elapsed=elapsed)
        if elapsed
        else Beamer("key-1", url, SystemClock())
    )
    try:
        return beamer.get(ASK, LONG_AGO).body
    finally:
        beamer.close()


def say(text: str) -> Serve:
    return lambda connection, _: connection.sendall(text.replace("\n", "\r\n").encode())


def test_plain_http_goes_by_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    plain = say("HTTP/1.1 200 OK\nContent-Length: 2\n\n[]")
    with server(plain) as (url, asked), server(plain) as (proxy, tunnelled):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.removesuffix("/v0"))
        assert answer(url) == []
        assert (len(asked), tunnelled) == (1, [])


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("ALL_PROXY", "socks5://user:secretword@127.0.0.1:1", "SOCKS"),
        ("HTTPS_PROXY", "foo://user:secretword@127.0.0.1:1", "HTTPS_PROXY"),
        ("HTTPS_PROXY", "http://[::1", "HTTPS_PROXY"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE"),
    ],
)
def test_a_proxy_or_a_certificate_that_cannot_be_is_named(
    name: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Beamer("key-1", "https://127.0.0.1:9/v0", SystemClock())
    assert named in str(caught.value)
    assert "secretword" not in str(caught.value)
    assert caught.value.__context__ is None


def test_what_goes_over_the_wire() -> None:
    with server(say("HTTP/1.1 200 OK\nContent-Length: 2\n\n[]")) as (url, asked):
        assert answer(url) == []
    [request] = asked
    assert request.startswith(b"GET /v0/nps?maxResults=100 HTTP/1.1\r\n")
    assert request.lower().count(b"beamer-api-key: key-1\r\n") == 1


def test_a_redirect_is_not_followed_and_the_key_stays() -> None:
    with server(say("HTTP/1.1 200 OK\nContent-Length: 2\n\n[]")) as (elsewhere, reached):
        moved = f"HTTP/1.1 302 Found\nLocation: {elsewhere}\nContent-Length: 0\n\n"
        with server(say(moved)) as (url, asked), pytest.raises(Unreachable):
            answer(url)
        assert len(asked) == 1
        assert reached == []


def test_a_connection_that_is_reset_is_worth_another_attempt() -> None:
    def reset(connection: socket.socket, _: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with server(reset) as (url, _), pytest.raises(Transient):
        answer(url)


@pytest.mark.parametrize(
    "cut",
    [
        "",
        "HTTP/1.1 200 OK\nContent-Le",
        "HTTP/1.1 200 OK\nContent-Length: 20\n\n[{",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\n[{",
        "HTTP/1.1 200 OK\n\n[{",
        "SSH-2.0-OpenSSH_9.6\n",
    ],
)
def test_an_answer_that_ends_too_early_is_worth_another_attempt(cut: str) -> None:
    with server(say(cut)) as (url, _), pytest.raises(Transient):
        answer(url)


def test_nobody_listening_is_worth_another_attempt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Transient):
        answer(f"http://127.0.0.1:{port}/v0")


def test_a_body_that_trickles_is_hung_up_on_at_the_deadline() -> None:
    hung_up: list[bool] = []

    def trickle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            for _byte in range(100_000):
                connection.sendall(b" ")
        except OSError:
            hung_up.append(True)

    ticks = iter(range(0, 10_000, 10))
    with server(trickle) as (url, _), pytest.raises(Transient, match="30 s"):
        answer(url, lambda: lambda: float(next(ticks)))
    assert hung_up == [True]

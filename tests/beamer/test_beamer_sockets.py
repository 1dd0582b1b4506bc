"""The client against a server on loopback, where sockets matter."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread

import pytest

from connector.beamer.client import BeamerClient
from connector.beamer.pagination import BeamerRequest
from connector.clock import SystemClock
from connector.errors import ConfigurationError, NotSent, Stopped, Transient, Unreachable
from connector.http.exchange import proxy_for

ASK = BeamerRequest("/nps", (("maxResults", "100"),))
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
        BeamerClient("key-1", url, SystemClock(), elapsed=elapsed)
        if elapsed
        else BeamerClient("key-1", url, SystemClock())
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
        BeamerClient("key-1", "https://127.0.0.1:9/v0", SystemClock())
    assert named in str(caught.value)
    assert "secretword" not in str(caught.value)
    assert caught.value.__context__ is None


NO_PROXY = {
    # NO_PROXY, and which of the hosts below go by no proxy.
    "": set(),
    "*": {"api.getbeamer.com", "10.1.2.3", "::1"},
    "localhost,127.0.0.1,[::1]": {"::1"},
    "10.0.0.0/8,[::1],*.svc,::1": {"10.1.2.3", "::1"},
    " 10.0.0.0/8 , ::1/128, , ": {"10.1.2.3", "::1"},
    "[::1]:443,10.1.2.3:443,api.getbeamer.com:443": {"api.getbeamer.com", "10.1.2.3", "::1"},
    "[::1]:8443,10.1.2.3:8443,api.getbeamer.com:8443": set(),
    "getbeamer.com": {"api.getbeamer.com"},
    ".getbeamer.com fd00::/8": {"api.getbeamer.com"},
    "*.GetBeamer.com.": {"api.getbeamer.com"},
    "https://api.getbeamer.com": {"api.getbeamer.com"},
    "beamer.com,eam,notapi.getbeamer.com,1.2.3": set(),
    "10.0.0.0/33,fd00::1%eth0,host:port,[,ü.de,%,10.1.2.0/24": {"10.1.2.3"},
    "[::]/0;fe80::/10": {"::1"},
}


@pytest.mark.parametrize(("no_proxy", "direct"), NO_PROXY.items())
def test_only_the_own_host_decides_what_no_proxy_means(
    no_proxy: str, direct: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    for host, shown in (
        ("api.getbeamer.com", "api.getbeamer.com"),
        ("10.1.2.3", "10.1.2.3"),
        ("::1", "[::1]"),
    ):
        url = f"https://{shown}/v0"
        assert proxy_for(url) == (None if host in direct else "http://127.0.0.1:1"), host
        BeamerClient("key-1", url, SystemClock()).close()


@pytest.mark.parametrize("no_proxy", ["", "10.0.0.0/8,*.svc", "[::1],127.0.0.0/8"])
def test_an_encrypted_request_takes_the_proxy_that_is_set(
    no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = say("HTTP/1.1 407 Proxy Authentication Required\nContent-Length: 0\n\n")
    with server(refuse) as (proxy, tunnelled), server(refuse) as (url, reached):
        monkeypatch.setenv("HTTPS_PROXY", proxy.removesuffix("/v0"))
        monkeypatch.setenv("NO_PROXY", no_proxy)
        with pytest.raises(Transient):
            answer(url.replace("http://", "https://"))
    excluded = "127" in no_proxy
    assert (len(tunnelled), len(reached)) == ((0, 1) if excluded else (1, 0))
    assert excluded or tunnelled[0].startswith(b"CONNECT 127.0.0.1:")


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


# --- sent or not --------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def failure(url: str) -> Transient:
    with pytest.raises(Transient) as caught:
        answer(url)
    return caught.value


def test_a_port_where_nobody_listens_means_not_sent() -> None:
    assert isinstance(failure(f"http://127.0.0.1:{closed_port()}/v0"), NotSent)


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-x\r\n", b""]
)
def test_a_handshake_that_fails_means_not_sent(said: bytes) -> None:
    with server(lambda connection, _: connection.sendall(said)) as (url, asked):
        assert isinstance(failure(url.replace("http:", "https:")), NotSent)
        assert not [request for request in asked if b"GET" in request]


@pytest.mark.parametrize(
    "said",
    [
        "HTTP/1.1 403 Forbidden\nContent-Length: 0\n\n",
        "HTTP/1.1 407 Proxy Authentication Required\nContent-Length: 0\n\n",
        "HTTP/1.1 502 Bad Gateway\n\n",
        "HTTP/1.1 200 Connection established\n\n",
        "HTTP/1.1 200 OK\nConte",
        "",
    ],
)
def test_a_proxy_that_opens_no_tunnel_means_not_sent(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(say(said)) as (url, asked):
        monkeypatch.setenv("HTTPS_PROXY", url.removesuffix("/v0"))
        assert isinstance(failure("https://127.0.0.1:9/v0"), NotSent)
        assert [request.split()[0] for request in asked] == [b"CONNECT"]


def test_a_proxy_that_is_not_there_means_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert isinstance(failure("https://127.0.0.1:9/v0"), NotSent)


def test_what_was_written_may_have_arrived() -> None:
    with server(lambda *_: None) as (url, asked):
        assert not isinstance(failure(url), NotSent)
        assert len(asked) == 1


def test_a_kept_connection_that_breaks_may_have_taken_the_request() -> None:
    """The server is gone when the second request comes, and its port is closed by then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        beamer = BeamerClient("key-1", f"http://{host}:{port}/v0", SystemClock())
        answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b""]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for said in answers:
                    connection.recv(65536)
                    connection.sendall(said)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        assert beamer.get(ASK, LONG_AGO).body == []
        with pytest.raises(Transient) as caught:
            beamer.get(ASK, LONG_AGO)
        thread.join(5)
        beamer.close()
    assert not isinstance(caught.value, NotSent)


def test_a_stop_before_its_moment_sends_nothing() -> None:
    clock = SystemClock()
    clock.stop()
    with server(say("HTTP/1.1 200 OK\nContent-Length: 2\n\n[]")) as (url, asked):
        beamer = BeamerClient("key-1", url, clock)
        with pytest.raises(Stopped):
            beamer.get(ASK, LONG_AGO)
        beamer.close()
        assert asked == []


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

"""Why a connection failed, in plain words: from the errors, and from real sockets."""

import errno
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from connector.errors import ConnectorError
from connector.http.bounds import Failed, cause
from connector.http.exchange import exchange, open_client
from tests.http.servers import Serve, certificate, serving

SECRET = "secretword"  # noqa: S105


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] {SECRET}")
    error.verify_code = code
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {SECRET}")
    error.reason = reason
    return error


CAUSES: list[tuple[BaseException, str]] = [
    (ConnectionRefusedError(errno.ECONNREFUSED, SECRET), "connection refused"),
    (socket.gaierror(socket.EAI_NONAME, SECRET), "the host name cannot be resolved"),
    (socket.gaierror(socket.EAI_AGAIN, SECRET), "the host name cannot be resolved"),
    (UnicodeError(SECRET), "the host name cannot be resolved"),
    (untrusted(10), "the certificate has expired"),
    (untrusted(9), "the certificate is not valid yet"),
    (untrusted(62), "the certificate is for another host name"),
    (untrusted(64), "the certificate is for another address"),
    (untrusted(18), "the certificate is not trusted"),
    (untrusted(20), "the certificate is not trusted"),
    (tls("WRONG_VERSION_NUMBER"), "this port does not use TLS (plain HTTP?)"),
    (tls("TLSV1_ALERT_PROTOCOL_VERSION"), "the TLS handshake failed (tlsv1 alert protocol version)"),
    (tls(f"{SECRET} "), "the TLS handshake failed"),
    (ssl.SSLEOFError(8, SECRET), "the TLS handshake was cut off"),
    (ConnectionResetError(errno.ECONNRESET, SECRET), "connection reset"),
    (BrokenPipeError(errno.EPIPE, SECRET), "connection reset"),
    (OSError(errno.ENETUNREACH, SECRET), "the network cannot be reached"),
    (OSError(errno.EHOSTUNREACH, SECRET), "the host cannot be reached"),
    (OSError(errno.EMFILE, SECRET), "this process has too many files open"),
    (PermissionError(errno.EPERM, SECRET), "this machine does not permit the connection"),
    (httpx.ConnectTimeout(SECRET), "timed out while connecting"),
    (httpx.ProxyError(f"407 Proxy Authentication Required {SECRET}"), "the proxy refused the tunnel (407)"),
    (httpx.ProxyError(f"{SECRET} 407"), "the proxy refused the tunnel"),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."),
     "the server closed the connection without an answer"),
    (httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
     "the answer was cut off"),
    (httpx.RemoteProtocolError(f"illegal status line {SECRET}"), "the answer is not HTTP"),
    (httpx.ReadError(SECRET), "the connection broke"),
    (ValueError(SECRET), "the connection failed"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "words"), CAUSES)
def test_each_cause_has_its_words(error: BaseException, words: str) -> None:
    assert cause(error) == words


@pytest.mark.parametrize(("error", "words"), CAUSES[:20])
@pytest.mark.parametrize("how", ["cause", "context", "deep"])
def test_a_cause_is_found_in_the_chain(error: BaseException, words: str, how: str) -> None:
    top = httpx.ConnectError(SECRET)
    if how == "deep":
        middle = RuntimeError(SECRET)
        middle.__cause__, top.__cause__ = error, middle
    elif how == "cause":
        top.__cause__ = error
    else:
        top.__context__ = error
    assert cause(top) == words


def test_a_chain_that_turns_back_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert cause(one) == "the connection failed"


# --- real sockets -------------------------------------------------------------------------------------


def say(said: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    return serve


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def describe(url: str) -> tuple[str, bool]:
    with open_client(url, timeout=5.0) as client:
        with pytest.raises(Failed) as caught:
            exchange(client, "GET", url, headers={"Key": SECRET})
        assert caught.value.__context__ is None
    said = caught.value.describe("Beamer")
    assert SECRET not in said
    return said, caught.value.sent


def test_refused() -> None:
    port = closed_port()
    assert describe(f"http://127.0.0.1:{port}/{SECRET}") == (
        f"No connection to 127.0.0.1:{port}: connection refused.",
        False,
    )
    assert f"[::1]:{port}" in describe(f"http://[::1]:{port}/")[0]


def test_plain_http_behind_https() -> None:
    with serving(say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as port:
        said, sent = describe(f"https://127.0.0.1:{port}/")
    assert (said, sent) == (
        f"No connection to 127.0.0.1:{port}: this port does not use TLS (plain HTTP?).",
        False,
    )


@pytest.mark.parametrize(
    ("name", "trusted", "words"),
    [
        ("127.0.0.1", False, "the certificate is not trusted"),
        ("another.test", True, "the certificate is for another address"),
    ],
)
def test_certificates(
    name: str, trusted: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certificate(tmp_path, name)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)

    with serving(serve) as port:
        assert describe(f"https://127.0.0.1:{port}/") == (
            f"No connection to 127.0.0.1:{port}: {words}.",
            False,
        )


PROXIES = [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "refused the tunnel (407)"),
    (b"HTTP/1.1 503 Who is secretword?\r\nContent-Length: 0\r\n\r\n", "refused the tunnel (503)"),
    (b"", "closed the connection without an answer"),
    (b"SSH-2.0-secretword\r\n\r\n", "the answer is not HTTP"),
]


@pytest.mark.parametrize(("said", "words"), PROXIES)
def test_a_proxy_is_named_without_its_login(said: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(say(said)) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:{port}")
        text, sent = describe("https://beamer.test/v0")
    assert text.startswith(f"No connection to the proxy at 127.0.0.1:{port}: ")
    assert words in text
    assert not sent


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:{port}")
    said, sent = describe("https://beamer.test/v0")
    assert (said, sent) == (f"No connection to the proxy at 127.0.0.1:{port}: connection refused.", False)


def test_no_tls_behind_a_tunnel_is_the_hosts_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(serve) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        said, sent = describe("https://beamer.test/v0")
    assert (said, sent) == (
        "No connection to beamer.test:443: this port does not use TLS (plain HTTP?).",
        False,
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "the server closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n[", "the answer was cut off"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "the answer is not HTTP"),
    ],
)
def test_what_breaks_after_the_request_was_written(said: bytes, words: str) -> None:
    with serving(say(said)) as port:
        assert describe(f"http://127.0.0.1:{port}/") == (
            f"The connection to Beamer (127.0.0.1:{port}) failed: {words}.",
            True,
        )


@pytest.mark.parametrize("url", ["http://", "foo://user:secretword@127.0.0.1:1", "http://[::1"])
def test_a_proxy_that_cannot_be_is_a_matter_of_settings(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(ConnectorError) as caught:
        open_client("https://beamer.test/v0")
    assert "HTTPS_PROXY" in str(caught.value)
    assert SECRET not in str(caught.value)

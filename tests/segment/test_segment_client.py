import gzip
import json
import logging
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from connector.errors import ConfigurationError, ConnectorError, Transient, WriteKeyRefused
from connector.segment.client import Redirected, Refused, SegmentClient, reason_of

KEY = "made-up-write-key"
SENT = datetime(2026, 11, 21, 12, tzinfo=UTC)
TEXT = json.dumps({"userId": "42", "properties": {"comment": "Zanzibar häuser secretword"}})


class Server(ThreadingHTTPServer):
    """A Segment on loopback that gives one answer and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, status: int, body: str, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = (status, body.encode(), headers)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, dict(self.headers), body))
        status, content, headers = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None: ...


Start = Callable[..., Server]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[Server] = []

    def begin(status: int = 200, body: str = '{"success": true}', **headers: str) -> Server:
        server = Server(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def failure(server: Server, text: str = TEXT) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        SegmentClient(KEY, server.url, timeout=5).send([text], SENT)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    for secret in (KEY, "Zanzibar", "secretword", "häuser"):
        assert secret not in str(error)
    return error


def test_a_batch_that_is_sent_again_says_so(start: Start) -> None:
    server = start()
    for retries in (0, 1, 2):
        SegmentClient(KEY, server.url).send([TEXT], SENT, retries=retries)
    assert [headers.get("X-Retry-Count") for _, headers, _ in server.asked] == [None, "1", "2"]


def test_a_confirmed_batch(start: Start) -> None:
    server = start()
    SegmentClient(KEY, server.url).send([TEXT, TEXT], SENT)
    [(path, headers, body)] = server.asked
    assert path == "/v1/batch"
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == {
        "batch": [json.loads(TEXT)] * 2,
        "sentAt": "2026-11-21T12:00:00.000+00:00",
        "writeKey": KEY,
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(start: Start, status: int) -> None:
    other = start()
    server = start(status, Location=f"{other.url}/v1/batch")
    assert isinstance(failure(server), Redirected)
    assert other.asked == []


@pytest.mark.parametrize("status", [300, 304])
def test_a_redirect_to_nowhere(start: Start, status: int) -> None:
    assert isinstance(failure(start(status, "")), Redirected)


@pytest.mark.parametrize(
    "body", ["", "<html>ok</html>", "[]", "true", '{"success": false}', '{"success": "true"}']
)
def test_a_200_that_confirms_nothing(start: Start, body: str) -> None:
    assert isinstance(failure(start(200, body)), Transient)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(status, WriteKeyRefused) for status in (401, 403)],
        *[(status, Transient) for status in (408, 410, 429, 460, 500, 503)],
        *[(status, Refused) for status in (400, 404, 413)],
    ],
)
def test_each_status_says_what_to_do(start: Start, status: int, kind: type[ConnectorError]) -> None:
    error = failure(start(status, json.dumps({"code": "invalid_request", "message": f"bad {KEY}: {TEXT}"})))
    assert type(error) is kind
    assert not isinstance(error, Refused) or error.status == status


@pytest.mark.parametrize(("header", "after"), [("7", 7.0), ("0", 0.0), ("soon", None), ("86400", 300.0)])
def test_segments_own_wish_to_wait(start: Start, header: str, after: float | None) -> None:
    error = failure(start(429, "{}", Retry_After=header))
    assert isinstance(error, Transient)
    assert error.after == after


def test_a_refusal_keeps_segments_reason(start: Start) -> None:
    error = failure(start(400, json.dumps({"code": "invalid_request", "message": "Batch exceeds the limit"})))
    assert isinstance(error, Refused)
    assert error.reason == "invalid_request: Batch exceeds the limit"


def test_nobody_there() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as unused:
        port = unused.server_port
    with pytest.raises(Transient) as caught:
        SegmentClient(KEY, f"http://127.0.0.1:{port}").send([TEXT], SENT)
    assert caught.value.__context__ is None


def test_a_post_of_ones_own() -> None:
    asked: list[Any] = []

    class Answer:
        status_code = 200
        history: tuple[Any, ...] = ()

        def json(self) -> Any:
            return {"success": True}

    def post(*args: Any, **named: Any) -> Answer:
        asked.append((args, named))
        return Answer()

    SegmentClient(KEY, "https://segment.test", post=post, timeout=3).send([TEXT], SENT)
    [(args, named)] = asked
    assert args == (KEY, "https://segment.test")
    assert (named["gzip"], named["timeout"], named["batch"]) == (True, 3, [json.loads(TEXT)])


@pytest.mark.parametrize("error", [requests.Timeout, requests.ConnectionError, OSError])
def test_trouble_on_the_way_names_the_kind_only(error: type[Exception]) -> None:
    def post(*_: Any, **__: Any) -> None:
        raise error(f"secretword {KEY}")

    with pytest.raises(Transient) as caught:
        SegmentClient(KEY, "https://segment.test", post=post).send([TEXT], SENT)
    assert error.__name__ in str(caught.value)
    assert "secretword" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_response_with_a_history_confirms_nothing() -> None:
    class Answer:
        status_code = 200
        history = ("a redirect",)

    with pytest.raises(Redirected):
        SegmentClient(KEY, "https://segment.test", post=lambda *_, **__: Answer()).send([TEXT], SENT)


def test_nothing_of_it_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    SegmentClient(KEY, start().url).send([TEXT], SENT)
    failure(start(400, "secretword"))
    failure(start(302, Location="http://127.0.0.1:9/secretword"))
    assert caplog.records == []


def test_plain_http_goes_by_no_proxy(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    proxy, here = start(502), start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    SegmentClient(KEY, here.url).send([TEXT], SENT)
    assert (len(here.asked), proxy.asked) == (1, [])


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("REQUESTS_CA_BUNDLE", "/nowhere.pem", "REQUESTS_CA_BUNDLE"),
        ("HTTPS_PROXY", "socks5://user:secretword@127.0.0.1:1", "SOCKS"),
        ("HTTPS_PROXY", "http://", "HTTPS_PROXY"),
    ],
)
def test_a_proxy_or_a_certificate_that_cannot_be_is_named(
    name: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        SegmentClient(KEY, "https://127.0.0.1:9").send([TEXT], SENT)
    assert named in str(caught.value)
    assert "secretword" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_netrc_does_not_replace_the_key(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with_netrc, without = start(), start()
    SegmentClient(KEY, with_netrc.url).send([TEXT], SENT)
    monkeypatch.delenv("NETRC")
    SegmentClient(KEY, without.url).send([TEXT], SENT)
    assert with_netrc.asked[0][1]["Authorization"] == without.asked[0][1]["Authorization"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Message too large", "code: Message too large"),
        ("near 'secretword'", "code: near '...'"),
        ("near Zanzibar häuser secretw", "code: near ..."),
        (r"near h\u00e4user", "code: near ..."),
        ("", "code"),
    ],
)
def test_reasons_leave_out_the_messages_words(said: str, expected: str) -> None:
    assert reason_of("code", said, [TEXT], KEY) == expected


def test_reasons_leave_out_the_key() -> None:
    header = b64encode(f"{KEY}:".encode()).decode()
    assert reason_of("code", f"said {KEY}!", [TEXT], KEY) == "code: said ...!"
    assert reason_of("code", f"Basic {header}", [TEXT], KEY) == "code: Basic ..."


def test_reasons_are_short() -> None:
    assert len(reason_of("code", "too large, " * 1_000, [TEXT], KEY)) == 200

"""Requests, answers, rate limits, and two HTTP servers on loopback."""

import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

Api = Literal["beamer", "segment"]


@dataclass(frozen=True)
class Request:
    """One request to either API; header names are in lower case.

    `arrived` is in seconds of a monotonic clock, if the request came over a socket. The rate limits count
    from this time, as the answer may have to wait for others.
    """

    api: Api
    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    arrived: float | None = None


@dataclass
class Answer:
    """The answer of either API."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class RateLimiter:
    """Limits what happens within any second; refused requests do not count."""

    def __init__(self) -> None:
        self._allowed: deque[tuple[float, int]] = deque()
        self._total = 0

    def take(self, now: float, limit: int, count: int = 1) -> bool:
        """Return whether `count` more fit into the second that ends now, and count them if they do.

        The first request of a second always fits.
        """
        while self._allowed and (self._allowed[0][0] <= now - 1 or self._allowed[0][0] > now):
            self._total -= self._allowed.popleft()[1]
        if self._allowed and self._total + count > limit:
            return False
        self._allowed.append((now, count))
        self._total += count
        return True


Handle = Callable[[Request], Answer]
HOST = "127.0.0.1"


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet per answer
    timeout = 60

    def __init__(self, served: "Served", api: Api, *args: Any) -> None:
        self._handle = served.handle
        self._api = api
        super().__init__(*args)

    def _respond(self) -> None:
        arrived = monotonic()
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(length)
        self.send(self._handle(Request(self._api, self.command, url.path, params, headers, body, arrived)))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _respond  # noqa: N815

    def send(self, answer: Answer) -> None:
        """Send a whole answer."""
        self.send_head(answer)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_head(self, answer: Answer) -> None:
        """Send the status and the headers."""
        self.send_response_only(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self.open.discard(request)
        super().close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that closes its connection is not an error."""


class Served:
    """The servers of both APIs, in threads; a context manager that stops them."""

    def __init__(self, handle: Handle, port: int = 0) -> None:
        self.handle = handle
        self._servers = [self._start("beamer", port), self._start("segment", port + 1 if port else 0)]
        self.beamer_url = f"http://{HOST}:{self._servers[0].server_port}/v0"
        self.segment_url = f"http://{HOST}:{self._servers[1].server_port}"

    def handler(self, api: Api, *args: Any) -> Handler:
        """Return the handler of one connection; a subclass may answer in another way."""
        return Handler(self, api, *args)

    def _start(self, api: Api, port: int) -> _Server:
        server = _Server((HOST, port), partial(self.handler, api))
        # The short interval lets close() return at once.
        Thread(target=server.serve_forever, args=(0.02,), daemon=True, name=f"sandbox-{api}").start()
        return server

    def close(self) -> None:
        """Stop both servers and close the connections that are still open."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
            for connection in list(server.open):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

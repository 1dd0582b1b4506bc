"""Both APIs on loopback sockets."""

import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from connector.sandbox.faults import Faults
from connector.sandbox.message import Answer, Api, Request

Handle = Callable[[Request], Answer]
HOST = "127.0.0.1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet an answer
    timeout = 60

    def __init__(self, served: "Served", api: Api, *args: Any) -> None:
        self._served = served
        self._api = api
        super().__init__(*args)

    def _any(self) -> None:
        arrived = monotonic()
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(length)
        answer = self._served.handle(
            Request(self._api, self.command, url.path, params, headers, body, arrived)
        )
        self._served.closing.wait(answer.delay) if answer.delay else None
        self._give(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _any  # noqa: N815

    def _give(self, answer: Answer) -> None:
        if answer.mishap == "hang":
            self._served.closing.wait(self._served.faults.hang_seconds)
        if answer.mishap in ("hang", "reset"):
            self._reset()
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.mishap == "trickle":
            self._trickle(answer.body)
        elif self.command != "HEAD":
            self.wfile.write(answer.body)

    def _trickle(self, body: bytes) -> None:
        for position in range(len(body)):
            self.wfile.write(body[position : position + 1])
            self.wfile.flush()
            if self._served.closing.wait(self._served.faults.trickle_seconds):
                break
        self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        # Closing with a linger of zero sends a reset where a plain close would send an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the sandbox keeps its own log."""


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
        """A client that went away is no news."""


class Served:
    """Two servers in threads; a context manager."""

    def __init__(self, handle: Handle, faults: Faults, port: int = 0) -> None:
        self.handle = handle
        self.faults = faults
        self.closing = Event()
        self._servers = [self._start("beamer", port), self._start("segment", port + 1 if port else 0)]
        self.beamer_url = f"http://{HOST}:{self._servers[0].server_port}/v0"
        self.segment_url = f"http://{HOST}:{self._servers[1].server_port}"

    def _start(self, api: Api, port: int) -> _Server:
        server = _Server((HOST, port), partial(_Handler, self, api))
        # The short poll lets close() return at once.
        Thread(target=server.serve_forever, args=(0.02,), daemon=True, name=f"sandbox-{api}").start()
        return server

    def close(self) -> None:
        """Stop both servers and cut what is still open."""
        self.closing.set()
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

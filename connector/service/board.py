"""Health, readiness, metrics and a status page on one port: small pages that name no person."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import structlog

from connector.errors import ConfigurationError, ConnectorError

log = structlog.get_logger()

TEXT, HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# Nobody can do more with a page than read it, unless it says so.
READ_ONLY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer; `policy` is what a browser may do with it."""

    body: bytes
    kind: str = TEXT
    status: int = 200
    policy: str = READ_ONLY


Pages = Mapping[str, Callable[[], Page]]


def told(lines: list[str], *, well: bool) -> Page:
    """A page for probes: 200, or 503 with what is wrong."""
    return Page("".join(f"{line}\n" for line in lines).encode(), TEXT, 200 if well else 503)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "beamer-segment", ""
    timeout = 10

    def __init__(self, pages: Pages, *args: Any) -> None:
        self._pages = pages
        super().__init__(*args)

    def do_GET(self) -> None:
        self._give(self._page())

    do_HEAD = do_GET  # noqa: N815 - as the base class wants it

    def _page(self) -> Page:
        make = self._pages.get(self.path.partition("?")[0])
        if make is None:
            return Page(b"not found\n", status=404)
        try:
            return make()
        except ConnectorError as error:
            return told([error.what], well=False)
        except Exception as error:
            log.error("page_failed", path=self.path[:100], error=type(error).__name__)
            return Page(b"failed\n", status=500)

    def _give(self, page: Page) -> None:
        self.send_response(page.status)
        for name, value in {
            "Content-Type": page.kind,
            "Content-Length": str(len(page.body)),
            "Content-Security-Policy": f"{page.policy}; frame-ancestors 'none'",
            **HEADERS,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class Board:
    """Serves pages in threads until closed; a context manager. `bind` is HOST:PORT, port 0 any free one."""

    def __init__(self, bind: str, pages: Pages) -> None:
        host, _, port = bind.rpartition(":")
        host = host.strip("[]")
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host, int(port)), partial(_Handler, pages))
        except OSError as error:
            raise ConfigurationError(
                f"Nothing can be served at {bind}: {error.strerror}.",
                todo="Give another address with --bind or CONNECTOR_BIND, or none.",
            ) from None
        self.port = int(self._server.server_address[1])
        Thread(target=self._server.serve_forever, name="board", daemon=True).start()
        log.info("serving", host=host, port=self.port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

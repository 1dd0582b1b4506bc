"""The HTTP server of the daemon: health, readiness, metrics, a page of connections; all within bounds."""

import errno
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeVar, cast

import structlog

from connector.clock import Clock, timer
from connector.config.addresses import is_loopback_address
from connector.daemon.scheduler import BEAT_SECONDS, Scheduler
from connector.daemon.webhooks import PATH, Webhooks
from connector.domain.budget import Limits
from connector.errors import ConfigurationError, ConnectorError
from connector.reporting.metrics import Sample, of_database, rendered
from connector.reporting.report_page import aged, document, number, overview, policy
from connector.state import leases, schema, suspensions
from connector.state.engine import Database
from connector.text import one_line

log = structlog.get_logger()

TEXT, HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# Pages open in a browser load again after this number of seconds.
REFRESH = {"Refresh": "60"}


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, as text for probes and as HTML for people."""

    body: bytes
    kind: str = TEXT
    status: int = 200


# Probes and viewers are few; each connection needs a descriptor and a thread, like the syncs.
MOST_CONNECTIONS = 64
# From the connection to the answer's last byte.
DEADLINE_SECONDS = 30.0
# A browser sends one or two thousand bytes.
MOST_BYTES = 32_768
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_SECONDS = 0.5
ELSEWHERE = b"Served on this machine only. Ask for http://127.0.0.1 or localhost, or bind another address.\n"

Connection = socket.socket
Pages = Mapping[str, Callable[[], Page]]
# How much a refused request may still send, so that its sender sees the answer.
MOST_UNREAD = 65_536


def text_page(lines: list[str], *, well: bool) -> Page:
    """Return a page for probes: 200, or 503 with what is wrong."""
    return Page("".join(f"{one_line(line)}\n" for line in lines).encode(), TEXT, 200 if well else 503)


def is_this_machine(host: str) -> bool:
    """Return whether HOST or HOST:PORT names this machine, without asking a name server."""
    name = re.sub(r":\d*$", "", host).strip("[]").rstrip(".").lower()
    return name == "localhost" or is_loopback_address(name)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "beamer-segment", ""
    timeout = 10

    def __init__(self, pages: Pages, webhooks: Webhooks | None, is_local: bool, *args: Any) -> None:
        self._pages = pages
        self._webhooks = webhooks
        self._is_local = is_local
        super().__init__(*args)

    def setup(self) -> None:
        super().setup()
        self.rfile = cast(Any, _Bounded(self.rfile))

    def do_GET(self) -> None:
        if self._is_webhook:
            self._take_hints()
            return
        # Pages of another site, whose name points here for a moment (DNS rebinding), must not read them.
        if self._is_local and not is_this_machine(self.headers.get("Host", "localhost")):
            self._give(Page(ELSEWHERE, status=421))
        else:
            self._give(self._page())

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def do_POST(self) -> None:
        if self._is_webhook:
            self._take_hints()
        else:
            self.send_error(501)

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST  # noqa: N815

    @property
    def _is_webhook(self) -> bool:
        return self._webhooks is not None and self.path.startswith(PATH)

    def _take_hints(self) -> None:
        """Answer with a status alone: a rightful sender needs no more."""
        stream = cast(_Bounded, self.rfile)
        status = 500
        try:
            status = cast(Webhooks, self._webhooks).answer(
                self.command, self.path.partition("?")[0], cast(Any, self.headers), stream.read
            )
        except OSError:
            raise
        except Exception as error:
            log.error("page_failed", path=PATH, error=type(error).__name__)
        if status != 202:
            stream.skip(self.headers.get("Content-Length") or "")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 405:
            self.send_header("Allow", "POST")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def _page(self) -> Page:
        make = self._pages.get(self.path.partition("?")[0])
        if make is None:
            return Page(b"not found\n", status=404)
        try:
            return make()
        except ConnectorError as error:
            return text_page([error.what], well=False)
        except Exception as error:
            log.error("page_failed", path=self.path[:100], error=type(error).__name__)
            return Page(b"failed\n", status=500)

    def _give(self, page: Page) -> None:
        self.send_response(page.status)
        for name, value in {
            "Content-Type": page.kind,
            "Content-Length": str(len(page.body)),
            "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'",
            **HEADERS,
            **(REFRESH if page.kind == HTML else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every few seconds."""


class _Bounded:
    """A request, up to MOST_BYTES; raises ConnectionError for more."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._left = MOST_BYTES
        self._unread = True

    def read(self, size: int) -> bytes:
        """Read the body, whose size the caller bounds."""
        self._unread = False
        return self._stream.read(size)

    def skip(self, length: str) -> None:
        """Read the beginning of a body that was not read: closed before, its sender may see no answer."""
        if self._unread and length.isascii() and length.isdecimal() and len(length) < 8:
            self._stream.read(min(int(length), MOST_UNREAD))

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise ConnectionError("the request is too long")
        return line

    def close(self) -> None:
        self._stream.close()


class _Server(ThreadingHTTPServer):
    """A thread for each connection, for a bounded number of connections and a bounded time.

    The threads are reused: starting one takes longer than refusing a forged webhook.
    """

    block_on_close = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, deadline: float, *args: Any) -> None:
        self._deadline = deadline
        self._open: dict[Connection, Callable[[], float]] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(MOST_CONNECTIONS, "board")
        super().__init__(*args)

    def get_request(self) -> tuple[Connection, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                # Without a free descriptor, the same connection is offered again at once.
                log.warning("no_descriptor", error=error.strerror)
                Event().wait(PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            # Probes are answered at once, so the oldest connection is a silent one.
            if len(self._open) >= MOST_CONNECTIONS:
                _hang_up(self._open, next(iter(self._open)))
            self._open[request] = timer()
        self._pool.submit(self.process_request_thread, request, client_address)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for connection in list(self._open):
                _hang_up(self._open, connection)
        self._pool.shutdown(wait=False)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections whose request takes too long."""
        with self._lock:
            for connection in [late for late, age in self._open.items() if age() > self._deadline]:
                _hang_up(self._open, connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that closed their connection."""


def _hang_up(connections: dict[Connection, Callable[[], float]], connection: Connection) -> None:
    """Wake the thread that reads from or writes to a connection; the thread then closes it."""
    del connections[connection]
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Server6(_Server):
    address_family = socket.AF_INET6


class StatusServer:
    """Serves pages, and takes webhooks, in threads until closed.

    `bind` is HOST:PORT, port 0 any; `deadline` is in seconds.
    """

    def __init__(
        self,
        bind: str,
        pages: Pages,
        deadline: float = DEADLINE_SECONDS,
        webhooks: Webhooks | None = None,
    ) -> None:
        host, _, port = bind.rpartition(":")
        host = host.strip("[]")
        kind = _Server6 if ":" in host else _Server
        try:
            handler = partial(_Handler, pages, webhooks or None, is_this_machine(bind))
            self._server = kind(deadline, (host, int(port)), handler)
        except OSError as error:
            raise ConfigurationError(
                f"The address {bind} cannot be served: {error.strerror}.",
                todo="Give another address with --bind or CONNECTOR_BIND, or none.",
            ) from None
        self.port = int(self._server.server_address[1])
        Thread(target=self._server.serve_forever, name="board", daemon=True).start()
        log.info("serving", host=host, port=self.port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


# The loop reports every few seconds, also while all workers are busy.
SILENT_SECONDS = 6 * BEAT_SECONDS
# An exchange takes at most 30 seconds and is tried four times, and a server's Retry-After is respected up to
# five minutes: a run that writes nothing for longer is stuck.
STUCK_SECONDS = 600.0
KEPT_SECONDS = 5.0
# Adding up a month of runs takes a moment, and charts of days do not change by the second.
REPORT_SECONDS = 20.0
LINKS = (
    ("connections", "/connections"),
    ("metrics", "/metrics"),
    ("alive?", "/healthz"),
    ("ready?", "/readyz"),
)

# Returns the page with charts of one connection, with links: pairs of a text and an address.
Report = Callable[[str, Sequence[tuple[str, str]]], str]
Value = TypeVar("Value")


def pages(
    scheduler: Scheduler,
    database: Database,
    clock: Clock,
    limits: Mapping[str, Limits],
    report: Report,
    webhooks: Webhooks | None = None,
) -> Pages:
    """Return the pages by address; `limits` are those of the connections served here.

    `/` is the report of a single connection, or the table with links to the reports of several.
    """
    cached = Cached(lambda: of_database(database, limits, clock.now()))
    reports = {name: f"/report/{name}" for name in limits}

    def samples() -> list[Sample]:
        return [*cached.value(), *scheduler.samples(), *(webhooks.samples() if webhooks else ())]

    def table() -> Page:
        return Page(page(samples(), clock.now(), reports).encode(), HTML)

    def report_of(name: str) -> Callable[[], Page]:
        html = Cached(lambda: report(name, LINKS).encode(), REPORT_SECONDS)
        return lambda: Page(html.value(), HTML)

    by_address: dict[str, Callable[[], Page]] = {
        "/healthz": lambda: healthz(scheduler.silence),
        "/readyz": lambda: readyz(
            database, limits, draining=clock.stopped, stuck=stuck(database, scheduler.under_way, clock.now())
        ),
        "/metrics": lambda: Page(rendered(samples()), METRICS),
        "/connections": table,
        **{address: report_of(name) for name, address in reports.items()},
    }
    by_address["/"] = by_address[next(iter(reports.values()))] if len(reports) == 1 else table
    return by_address


class Cached(Generic[Value]):
    """A value read from the database, at most some seconds old: hundreds of accounts take a second."""

    def __init__(self, read: Callable[[], Value], seconds: float = KEPT_SECONDS) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = Lock()
        self._last: tuple[Value, Callable[[], float]] | None = None

    def value(self) -> Value:
        # Other threads wait for the reading one, and share its value.
        with self._lock:
            if self._last is None or self._last[1]() > self._seconds:
                self._last = (self._read(), timer())
            return self._last[0]


def healthz(silence: float) -> Page:
    """Return 200 while the loop runs."""
    well = silence <= SILENT_SECONDS
    return text_page(["ok" if well else f"the loop has not run for {silence:.0f} s"], well=well)


def stuck(database: Database, under_way: Mapping[str, float], now: datetime) -> list[str]:
    """Return the connections with a run that makes no progress."""
    long = {name: seconds for name, seconds in under_way.items() if seconds > STUCK_SECONDS}
    if not long:
        return []
    last = leases.progressed(database, long)
    # After a change of the clock, a run that has just begun is not stuck.
    idle = {
        name: min(seconds, (now - last[name]).total_seconds()) if name in last else seconds
        for name, seconds in long.items()
    }
    return [
        f"a run of {name} has made no progress for {seconds:.0f} s"
        for name, seconds in sorted(idle.items())
        if seconds > STUCK_SECONDS
    ]


def readyz(
    database: Database, names: Mapping[str, object], *, draining: bool, stuck: Sequence[str] = ()
) -> Page:
    """Return 200 if it can work: database reachable and at this schema, no key refused, no run stuck."""
    wrong = [*(["draining"] if draining else []), *stuck]
    revision = schema.version(database)  # raises if the database is not reached, which is an answer, too
    if revision != schema.HEAD:
        wrong.append(f"the database is at revision {revision}; this version needs {schema.HEAD}")
    else:
        suspended = [name for name in suspensions.listed(database) if name in names]
        wrong += [f"a key was refused; suspended: {name}" for name in sorted(suspended)]
    return text_page(wrong or ["ok"], well=not wrong)


COLUMNS = ("last success", "next sync", "waiting", "refused")


def page(samples: Iterable[Sample], now: datetime, reports: Mapping[str, str]) -> str:
    """Return the HTML overview of the connections; `reports` are the addresses of their reports."""
    by_name: dict[str, dict[str, float]] = {name: {} for name in sorted(reports)}
    for sample in samples:
        if sample.labels and sample.labels[0] in by_name:
            by_name[sample.labels[0]][sample.name] = sample.value
    lines = [_line(name, reports[name], values, now) for name, values in by_name.items()]
    return document("connections", "", overview(COLUMNS, lines), now, LINKS)


def _line(name: str, address: str, values: Mapping[str, float], now: datetime) -> tuple[str, ...]:
    exit_code = values.get("last_run_exit_code")
    state, grade = "never run" if exit_code is None else "last run succeeded", "ok"
    if exit_code:
        state, grade = f"last run exited with code {exit_code:.0f}", "error"
    if values.get("suspended"):
        state, grade = "suspended: a key was refused", "error"
    success, due = (
        datetime.fromtimestamp(seconds, UTC) if seconds else None
        for seconds in map(values.get, ("last_success_timestamp_seconds", "schedule_due_timestamp_seconds"))
    )
    counts = (number(int(values.get(metric, 0))) for metric in ("outbox_messages", "dead_letters"))
    return name, address, state, grade, aged(success, now), aged(due, now), *counts

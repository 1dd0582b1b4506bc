"""The HTTP server of the daemon: health, readiness, metrics, a page of connections; all within bounds."""

import errno
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from threading import Event, Lock, Thread
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

import structlog

from connector import __version__
from connector.clock import Clock, timer
from connector.config.addresses import is_loopback_address
from connector.daemon.metrics import Sample, of_database, rendered
from connector.daemon.scheduler import BEAT_SECONDS, Scheduler
from connector.errors import ConfigurationError, ConnectorError
from connector.reporting.html.page import policy
from connector.state import leases, schema, suspensions
from connector.state.engine import Database
from connector.state.ledger import Limits
from connector.terminal import one_line

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


# Probes and viewers are few; each connection takes a descriptor and a thread, which the syncs need, too.
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


def text_page(lines: list[str], *, well: bool) -> Page:
    """A page for probes: 200, or 503 with what is wrong."""
    # Somebody will look at it in a terminal.
    return Page("".join(f"{one_line(line)}\n" for line in lines).encode(), TEXT, 200 if well else 503)


def is_this_machine(host: str) -> bool:
    """Whether HOST or HOST:PORT names this machine, whatever a name server says."""
    name = re.sub(r":\d*$", "", host).strip("[]").rstrip(".").lower()
    return name == "localhost" or is_loopback_address(name)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "beamer-segment", ""
    timeout = 10

    def __init__(self, pages: Pages, is_local: bool, *args: Any) -> None:
        self._pages = pages
        self._is_local = is_local
        super().__init__(*args)

    def setup(self) -> None:
        super().setup()
        self.rfile = cast(Any, _Bounded(self.rfile))

    def do_GET(self) -> None:
        # A page of another site, whose name leads here for a moment, must not read what is for this machine.
        if self._is_local and not is_this_machine(self.headers.get("Host", "localhost")):
            self._give(Page(ELSEWHERE, status=421))
        else:
            self._give(self._page())

    do_HEAD = do_GET  # noqa: N815 - as the base class wants it

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
            "Content-Security-Policy": f"{page.policy}; frame-ancestors 'none'",
            **HEADERS,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds."""


class _Bounded:
    """What a viewer sends, up to MOST_BYTES; raises ConnectionError for more."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._left = MOST_BYTES

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise ConnectionError("the request is too long")
        return line

    def close(self) -> None:
        self._stream.close()


class _Server(ThreadingHTTPServer):
    """A thread for each connection, but not for any number of them, nor for any time."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, deadline: float, *args: Any) -> None:
        self._deadline = deadline
        self._open: dict[Connection, Callable[[], float]] = {}
        self._lock = Lock()
        super().__init__(*args)

    def get_request(self) -> tuple[Connection, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                # The same connection is offered again at once, for as long as there is no descriptor for it.
                log.warning("no_descriptor", error=error.strerror)
                Event().wait(PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            # In their order of coming: probes are answered at once, so the oldest is one that says nothing.
            if len(self._open) >= MOST_CONNECTIONS:
                _hang_up(self._open, next(iter(self._open)))
            self._open[request] = timer()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Hang up where one request has taken too long, whoever was slow."""
        with self._lock:
            for each in [each for each, age in self._open.items() if age() > self._deadline]:
                _hang_up(self._open, each)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that closed their connection."""


def _hang_up(connections: dict[Connection, Callable[[], float]], connection: Connection) -> None:
    """Wake the thread that reads from a connection or writes to it; that thread closes it."""
    del connections[connection]
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Server6(_Server):
    address_family = socket.AF_INET6


class StatusServer:
    """Serves pages in threads until closed. `bind` is HOST:PORT, port 0 any; `deadline` is in seconds."""

    def __init__(self, bind: str, pages: Pages, deadline: float = DEADLINE_SECONDS) -> None:
        host, _, port = bind.rpartition(":")
        host = host.strip("[]")
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind(deadline, (host, int(port)), partial(_Handler, pages, is_this_machine(bind)))
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


# The loop shows itself every few seconds, also while all workers are busy.
SILENT_SECONDS = 6 * BEAT_SECONDS
# No exchange takes longer than 30 seconds, it is tried four times, and a server's wish to wait is heeded for
# five minutes: a run that has written nothing for so long is stuck.
STUCK_SECONDS = 600.0
KEPT_SECONDS = 5.0
# A month of runs takes a moment to add up, and pictures of days do not change by the second.
REPORT_SECONDS = 20.0
LINKS = (
    ("connections", "/connections"),
    ("metrics", "/metrics"),
    ("alive?", "/healthz"),
    ("ready?", "/readyz"),
)

# The page with pictures of one connection, with links on it: pairs of words and an address.
Report = Callable[[str, Sequence[tuple[str, str]]], str]
Value = TypeVar("Value")


def pages(
    scheduler: Scheduler, database: Database, clock: Clock, limits: Mapping[str, Limits], report: Report
) -> Pages:
    """What is served where; `limits` are those of the connections served here.

    `/` shows the report of a connection that is alone, and of several the table that leads to each one's.
    """
    kept = Cached(lambda: of_database(database, limits, clock.now()))
    reports = {name: f"/report/{name}" for name in limits}

    def samples() -> list[Sample]:
        return [*kept.seen(), *scheduler.samples()]

    def table() -> Page:
        return Page(page(samples(), clock.now(), reports).encode(), HTML)

    def of(name: str) -> Callable[[], Page]:
        made = Cached(lambda: report(name, LINKS).encode(), REPORT_SECONDS)
        return lambda: Page(made.seen(), HTML, policy=policy())

    found: dict[str, Callable[[], Page]] = {
        "/healthz": lambda: healthz(scheduler.silence),
        "/readyz": lambda: readyz(
            database, limits, draining=clock.stopped, stuck=stuck(database, scheduler.under_way, clock.now())
        ),
        "/metrics": lambda: Page(rendered(samples()), METRICS),
        "/connections": table,
        **{address: of(name) for name, address in reports.items()},
    }
    found["/"] = found[next(iter(reports.values()))] if len(reports) == 1 else table
    return found


class Cached(Generic[Value]):
    """What was read from the database, some seconds old at most: hundreds of accounts take a second."""

    def __init__(self, read: Callable[[], Value], seconds: float = KEPT_SECONDS) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = Lock()
        self._last: tuple[Value, Callable[[], float]] | None = None

    def seen(self) -> Value:
        # Whoever asks meanwhile waits for the one that looks, and shares what it saw.
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
    # A clock that was set makes nobody look stuck who has only just begun.
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
    """Whether it can work: database reached and at this version's schema, no key refused, no run stuck."""
    wrong = [*(["draining"] if draining else []), *stuck]
    # Raises where the database is not reached, which is an answer of its own kind.
    found = schema.version(database)
    if found != schema.HEAD:
        wrong.append(f"the database is at revision {found}; this version needs {schema.HEAD}")
    else:
        suspended = [name for name in suspensions.listed(database) if name in names]
        wrong += [f"a key was refused; suspended: {name}" for name in sorted(suspended)]
    return text_page(wrong or ["ok"], well=not wrong)


HEAD = ("connection", "last success", "last exit", "suspended", "waiting", "refused", "next sync")
NONE: Mapping[str, str] = MappingProxyType({})
STYLE = (
    ":root{color-scheme:light dark}body{font-family:sans-serif}td,th{padding:.2em 1em;text-align:left}"
    "tr.bad{background:#fdd;color:#000}tr.bad a{color:#00c}"
)


def page(samples: Iterable[Sample], now: datetime, reports: Mapping[str, str] = NONE) -> str:
    """HTML for a person; `reports` are the addresses of the connections' own pages."""
    by_name: dict[str, dict[str, float]] = {}
    for sample in samples:
        if sample.labels:
            by_name.setdefault(sample.name, {})[sample.labels[0]] = sample.value
    names = sorted(by_name.get("suspended", {}))
    rows = "".join(_row(name, by_name, reports.get(name)) for name in names)
    head = "".join(f"<th>{each}</th>" for each in HEAD)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>beamer-segment</title>'
        f"<style>{STYLE}</style><h1>beamer-segment {escape(__version__)}</h1>"
        f"<p>{len(names)} connection{'' if len(names) == 1 else 's'} at {now:%Y-%m-%d %H:%M:%S} UTC. "
        '<a href="/metrics">metrics</a> <a href="/healthz">alive?</a> <a href="/readyz">ready?</a></p>'
        f"<table><tr>{head}</tr>{rows}</table></html>\n"
    )


def _row(name: str, by_name: dict[str, dict[str, float]], report: str | None) -> str:
    def of(metric: str) -> float | None:
        return by_name.get(metric, {}).get(name)

    exit_code, suspended = of("last_run_exit_code"), of("suspended")
    cells = (
        _when(of("last_success_timestamp_seconds")),
        "" if exit_code is None else f"{exit_code:.0f}",
        "yes: a key was refused" if suspended else "",
        f"{of('outbox_messages') or 0:,.0f}",
        f"{of('dead_letters') or 0:,.0f}",
        _when(of("schedule_due_timestamp_seconds")),
    )
    bad = ' class="bad"' if suspended or exit_code else ""
    who = f'<a href="{escape(report)}">{escape(name)}</a>' if report else escape(name)
    return f"<tr{bad}><td>{who}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _when(seconds: float | None) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}" if seconds else "never"

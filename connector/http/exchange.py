"""One request and its answer, whoever answers: bounded as a whole, and every failure told in plain words.

A time-out of the library bounds one wait for the next byte. Here one deadline and one number of bytes bound
the whole exchange: the look-up of the name, the connection, the handshakes, a proxy's answer, informational
answers without end, headers, body and trailers. They hold for each read and write on the connection,
because only there is everything seen that arrives.
"""

import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, cast

import httpcore
import httpx

from connector import heap
from connector.clock import GLANCE, GRACE, timer
from connector.errors import ConfigurationError
from connector.http.causes import cause
from connector.http.proxies import proxy_for

DEADLINE = 30.0
# A packed page, its headers and all that comes before and behind them.
MOST_BYTES = 16 * 1024 * 1024
# What one answer may take in memory beside others: of larger ones there is one at a time.
LARGE = 1024 * 1024
# Written at a time, so that a slow receiver is seen.
PIECE = 64 * 1024

# Of httpcore's trace: a connection is being opened, a proxy has made a tunnel, a request is about to be
# written, and is on its way.
CONNECTING = "connect_tcp.started"
TUNNELLED = ("proxy.start_tls.started", "socks.start_tls.started")
WRITING = "http11.send_request_headers.started"
SENT = "http11.send_request_headers.complete"
# Raised only before a request is written.
UNOPENED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, UnicodeError)

SSL_TODO = "Set SSL_CERT_FILE to a file of certificates in PEM format, or SSL_CERT_DIR to a folder of them."

# httpx logs whole URLs at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


class Failed(Exception):
    """An exchange without a whole answer.

    `sent`: whether a byte of the request may have left. `endless`: it was cut off at the deadline or the
    number of bytes. `slow`: it took a whole time-out. Its text has a place for the neighbour's name.
    """

    def __init__(self, text: str, *, sent: bool = True, endless: bool = False, slow: bool = False) -> None:
        super().__init__(text)
        self._text = text
        self.sent = sent
        self.endless = endless
        self.slow = slow

    def describe(self, neighbour: str) -> str:
        """What happened, as a sentence with the neighbour's name."""
        return self._text.format(name=neighbour)


class TooLarge(Failed):
    """More bytes than any answer holds."""


class _Late(Exception):
    """The whole took too long."""


class _TooMuch(Exception):
    """More bytes came than may."""


class _Stopped(Exception):
    """This process was asked to stop."""


class Room:
    """The room in memory for a large answer, from its first megabyte on until nobody holds it any more.

    There is one in this process: many answers that are each within bounds are together as well.
    """

    _lock = threading.Lock()

    def __init__(self) -> None:
        self._held = False

    def take(self, left: Callable[[], float]) -> None:
        """Wait for the room, as long as `left` allows."""
        if self._held:
            return
        while not self._lock.acquire(timeout=min(left(), GLANCE)):
            pass
        self._held = True
        # What each thread's heap kept of large answers would add up.
        heap.keep_small()

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()


class Exchange:
    """The bounds of one exchange, and what is known of how far it came."""

    def __init__(
        self,
        url: httpx.URL,
        *,
        seconds: float,
        most: int,
        elapsed: Callable[[], float],
        stopped: Callable[[], bool],
        on_sent: Callable[[], None],
        room: Room | None = None,
    ) -> None:
        self._room = room
        self._target = (url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80))
        self._seconds = seconds
        self.most = most
        self._elapsed = elapsed
        self._stopped = stopped
        self._stop_seen: float | None = None
        self._on_sent = on_sent
        self._read = 0
        # With whom a connection is being opened, a proxy first; whether anything was told of it; and the
        # methods of what was written.
        self._opening = self._target
        self._traced = False
        self._written: list[bytes] = []

    # --- bounds ---

    def left(self, timeout: float | None = None) -> float:
        """How many seconds one wait may take."""
        left = self._seconds - self._elapsed()
        if left <= 0:
            raise _Late
        return left if timeout is None else min(left, timeout)

    def glance(self) -> None:
        """Look whether to go on: not long after a stop was asked for."""
        if not self._stopped():
            return
        now = self._elapsed()
        self._stop_seen = now if self._stop_seen is None else self._stop_seen
        if now - self._stop_seen >= GRACE:
            raise _Stopped

    def count(self, arrived: int) -> None:
        self._read += arrived
        if self._read > self.most:
            raise _TooMuch
        if self._read > LARGE and self._room:
            self._room.take(self.left)
        self.left()

    # --- how far it came ---

    def trace(self, event: str, about: Mapping[str, Any]) -> None:
        """Take note of what httpcore says it does."""
        self._traced = True
        if event.endswith(CONNECTING):
            self._opening = (str(about["host"]), int(about["port"]))
        elif event in TUNNELLED:
            self._opening = self._target
        elif event == WRITING:
            self._written.append(about["request"].method)
        elif event == SENT:
            # The last time counts: a proxy is asked for a tunnel first.
            self._on_sent()

    def failed(self, error: Exception) -> Failed:
        """What an exception of the exchange means."""
        if isinstance(error, _TooMuch):
            return TooLarge("{name}'s answer is larger than the permitted maximum.", endless=True)
        late = isinstance(error, _Late)
        if not self._may_have_left(error):
            why = "timed out while connecting" if late else cause(error)
            return Failed(f"No connection to {self._where}: {why}.", sent=False, endless=late)
        if late:
            what = f"{{name}}'s answer was not complete after {self._seconds:.0f} s."
            return Failed(what, endless=True, slow=True)
        where = f"{{name}} ({_named(*self._target)})"
        if isinstance(error, httpx.TimeoutException):
            return Failed(f"{where} did not answer in time.", slow=True)
        return Failed(f"The connection to {where} failed: {cause(error)}.")

    def _may_have_left(self, error: Exception) -> bool:
        """Whether a byte of the request may have left; asking a proxy for a tunnel is none."""
        if any(method != b"CONNECT" for method in self._written):
            return True
        # A transport without connections, as in tests, says nothing of what it did.
        cut_off = self._traced and isinstance(error, _Late | _Stopped)
        return not (self._written or cut_off or isinstance(error, UNOPENED))

    @property
    def _where(self) -> str:
        """With whom no connection came about."""
        named = _named(*self._opening)
        return named if self._opening == self._target else f"the proxy at {named}"


def _named(host: str, port: int) -> str:
    """A host and port, without what `format` would take for a place to fill."""
    shown = host.replace("{", "").replace("}", "")
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"


# --- on the connection --------------------------------------------------------------------------------


class _Current(threading.local):
    """What this thread exchanges now: the library reads and writes in the thread that asks."""

    exchange: Exchange | None = None


_current = _Current()


class Backend(httpcore.NetworkBackend):
    """Opens connections on which the bounds of the exchange hold."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> "Stream":  # type: ignore[override]
        def connect() -> httpcore.NetworkStream:
            return self._plain.connect_tcp(host, port, timeout, **options)

        # Looking a name up takes as long as it likes, and each of its addresses as long as the time-out.
        return Stream(_patiently(connect, timeout))

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)


class Stream(httpcore.NetworkStream):
    """A connection whose every read and write is bounded."""

    def __init__(self, plain: httpcore.NetworkStream) -> None:
        self._plain = plain

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = _current.exchange
        if exchange is None:
            return self._plain.read(max_bytes, timeout)
        waited = timer()
        while True:
            exchange.glance()
            rest = None if timeout is None else timeout - waited()
            if rest is not None and rest <= 0:
                # With no time left the socket would not wait at all, which is another error.
                raise httpcore.ReadTimeout("timed out")
            try:
                data = self._plain.read(max_bytes, min(exchange.left(rest), GLANCE))
            except httpcore.ReadTimeout:
                continue
            else:
                exchange.count(len(data))
                return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        exchange = _current.exchange
        for start in range(0, len(buffer), PIECE):
            limit = exchange.left(timeout) if exchange else timeout
            self._plain.write(buffer[start : start + PIECE], limit)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Stream":
        def shake_hands() -> httpcore.NetworkStream:
            return self._plain.start_tls(ssl_context, server_hostname, timeout)

        try:
            return Stream(_patiently(shake_hands, timeout))
        except (_Late, _Stopped, httpcore.ConnectTimeout):
            self.close()
            raise

    def close(self) -> None:
        self._plain.close()

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def _patiently(work: Callable[[], httpcore.NetworkStream], timeout: float | None) -> httpcore.NetworkStream:
    """Do what cannot be bounded from outside in a thread of its own, and wait no longer than may be."""
    exchange = _current.exchange
    if exchange is None:
        return work()
    done: Future[httpcore.NetworkStream] = Future()
    waited = timer()
    try:
        # A daemon: what hangs must not keep the process.
        threading.Thread(target=_fulfil, args=(done, work), name="connect", daemon=True).start()
    except RuntimeError:  # no memory for another thread
        return work()
    try:
        while not wait([done], GLANCE).done:
            exchange.glance()
            exchange.left()
            if timeout is not None and waited() >= timeout:
                raise httpcore.ConnectTimeout("timed out")
    except BaseException:
        done.add_done_callback(_close_late)
        raise
    return done.result()


def _fulfil(done: Future[httpcore.NetworkStream], work: Callable[[], httpcore.NetworkStream]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)


def _close_late(done: Future[httpcore.NetworkStream]) -> None:
    """Nobody waits for it any more."""
    if not done.exception():
        done.result().close()


# --- the client and its one call ----------------------------------------------------------------------


def open_client(url: str, *, certificates_of: Sequence[str] = (), **options: Any) -> httpx.Client:
    """A client for the host of a URL, by the environment's proxy and certificates.

    No redirect is followed and no cookie kept. `certificates_of` are variables that name certificates to
    trust, and go before SSL_CERT_FILE. Raises ConfigurationError where proxy or certificates cannot work.
    """
    # Plain http goes to loopback only, and by no proxy: keys would leave the machine unencrypted.
    encrypted = not url.lower().startswith("http:")
    variable = next((name for name in certificates_of if os.environ.get(name)), None)
    try:
        proxy = proxy_for(url) if encrypted else None
        if proxy and not httpx.URL(proxy).host:
            raise ValueError
        client = httpx.Client(
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # Reading the certificates takes a tenth of a second, and plain http has no use for them.
            verify=_trusting(variable) if encrypted else False,
            proxy=proxy,
            trust_env=False,
            **options,
        )
    except ImportError:
        wrong = "A SOCKS proxy is set, but support for it is not installed."
        todo = "Set HTTPS_PROXY or ALL_PROXY to an HTTP proxy, or pip install 'httpx[socks]'."
    except (ValueError, httpx.InvalidURL):
        wrong = "The address of the proxy is not valid."
        todo = "Correct or unset HTTPS_PROXY, HTTP_PROXY or ALL_PROXY."
    except OSError:
        wrong = "The trusted certificates cannot be read."
        named = f"Set {variable} to a file or folder of certificates in PEM format."
        todo = named if variable else SSL_TODO
    else:
        _bound(client)
        return client
    # Raised out here: their own errors quote addresses, and so a proxy's password.
    raise ConfigurationError(wrong, todo=todo)


def _trusting(variable: str | None) -> ssl.SSLContext:
    """What trusts the certificates in the file or folder that a variable names, or else the usual ones."""
    path = os.environ.get(variable or "")
    if not path:
        return httpx.create_ssl_context()
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def _bound(client: httpx.Client) -> None:
    """Let all of a client's connections go by the bounds.

    httpx makes its pools itself and passes no backend on; httpcore's pools take one as an argument and ask it
    for each connection. tests/http/ notices if that changes.
    """
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = Backend()


@dataclass(frozen=True)
class Reply:
    """An answer as it came: the body is still packed."""

    status: int
    reason: str
    headers: httpx.Headers
    body: bytes = field(repr=False)


def exchange(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    seconds: float = DEADLINE,
    most: int = MOST_BYTES,
    elapsed: Callable[[], float] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_sent: Callable[[], None] = lambda: None,
    room: Room | None = None,
    **options: Any,
) -> Reply:
    """Send one request and read its answer whole; raises Failed, which holds no key, URL or body.

    A large answer waits for the `room`, which the caller gives back when it has made something of it.
    """
    request = client.build_request(method, url, **options)
    bounds = Exchange(
        request.url,
        seconds=seconds,
        most=most,
        elapsed=elapsed or timer(),
        stopped=stopped,
        on_sent=on_sent,
        room=room,
    )
    request.extensions["trace"] = bounds.trace
    _current.exchange = bounds
    try:
        return _exchange(client, request, bounds)
    except (httpx.TransportError, httpx.DecodingError, UnicodeError, _Late, _TooMuch, _Stopped) as error:
        failure = bounds.failed(error)
    finally:
        _current.exchange = None
    # Raised out here, for httpx's errors hold the request, which holds the key.
    raise failure


def _exchange(client: httpx.Client, request: httpx.Request, bounds: Exchange) -> Reply:
    response = client.send(request, stream=True)
    try:
        body = bytearray()
        # Packed as it came: unpacked by httpx, a body without content would escape the bounds.
        for chunk in cast(Iterable[bytes], response.stream):
            body += chunk
            bounds.left()
            if len(body) > bounds.most:
                raise _TooMuch
    finally:
        response.close()
    return Reply(response.status_code, response.reason_phrase, response.headers, bytes(body))

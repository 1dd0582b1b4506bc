"""The bounds of one exchange, and why it failed, in plain words.

A time-out of the library limits one wait for the next byte. Here one deadline and one number of bytes limit
the whole exchange: the look-up of the name, the connection, the handshakes, a proxy's answer, informational
answers without end, headers, body and trailers. They hold for each read and write on the connection,
because only there everything that arrives is seen. No text about a failure contains an address, a key or
the words of a library.
"""

import errno
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import httpcore
import httpx

from connector import heap
from connector.clock import GLANCE, GRACE, timer

Result = TypeVar("Result")

# In bytes: of answers above this size, one at a time is in memory.
LARGE = 1024 * 1024
# In bytes, written at a time, so that a slow receiver is noticed.
PIECE = 64 * 1024

# Events of httpcore's trace: a connection is being opened, a proxy has made a tunnel, a request is about to
# be written, and is on its way.
CONNECTING = "connect_tcp.started"
TUNNELLED = ("proxy.start_tls.started", "socks.start_tls.started")
WRITING = "http11.send_request_headers.started"
SENT = "http11.send_request_headers.complete"
# These are raised only before a request is written.
UNOPENED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, UnicodeError)


class Failed(Exception):
    """An exchange without a whole answer; its text has a place for the API's name.

    `sent`: whether a byte of the request may have left. `endless`: it was cut off at the deadline or the
    number of bytes. `slow`: it took a whole time-out.
    """

    def __init__(self, text: str, *, sent: bool = True, endless: bool = False, slow: bool = False) -> None:
        super().__init__(text)
        self._text = text
        self.sent = sent
        self.endless = endless
        self.slow = slow

    def describe(self, api: str) -> str:
        """Return what happened, as a sentence with the API's name."""
        return self._text.format(name=api)


class TooLarge(Failed):
    """Raised for an answer with more bytes than any right answer."""


class Late(Exception):
    """Raised when the exchange takes too long."""


class TooMuch(Exception):
    """Raised when more bytes come than permitted."""


class Interrupted(Exception):
    """Raised when a signal stops this process."""


class Room:
    """The room in memory for one large answer, from its first megabyte on until it is given back.

    There is one in this process, because many answers that are each within bounds may together be too large.
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
        # Otherwise each thread's heap keeps memory of large answers.
        heap.keep_small()

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()


class Bounds:
    """The bounds of one exchange, and its progress."""

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
        # The host to which a connection is opened (a proxy's first); whether httpcore reported anything; the
        # methods of the requests that were written.
        self._opening = self._target
        self._traced = False
        self._written: list[bytes] = []

    def left(self, timeout: float | None = None) -> float:
        """Return how many seconds one wait may take; raise Late after the deadline."""
        left = self._seconds - self._elapsed()
        if left <= 0:
            raise Late
        return left if timeout is None else min(left, timeout)

    def glance(self) -> None:
        """Raise Interrupted some time after a signal."""
        if not self._stopped():
            return
        now = self._elapsed()
        self._stop_seen = now if self._stop_seen is None else self._stop_seen
        if now - self._stop_seen >= GRACE:
            raise Interrupted

    def count(self, arrived: int) -> None:
        """Count received bytes; raise TooMuch or Late beyond the bounds."""
        self._read += arrived
        if self._read > self.most:
            raise TooMuch
        if self._read > LARGE and self._room:
            self._room.take(self.left)
        self.left()

    def trace(self, event: str, about: Mapping[str, Any]) -> None:
        """Note a step that httpcore reports."""
        self._traced = True
        if event.endswith(CONNECTING):
            self._opening = (str(about["host"]), int(about["port"]))
        elif event in TUNNELLED:
            self._opening = self._target
        elif event == WRITING:
            self._written.append(about["request"].method)
        elif event == SENT:
            # Called again if a proxy was first asked for a tunnel; the last time counts.
            self._on_sent()

    def failed(self, error: Exception) -> Failed:
        """Return what an exception of the exchange means."""
        if isinstance(error, TooMuch):
            return TooLarge("{name}'s answer is larger than the permitted maximum.", endless=True)
        late = isinstance(error, Late)
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
        """Return whether a byte of the request may have left; asking a proxy for a tunnel does not count."""
        if any(method != b"CONNECT" for method in self._written):
            return True
        # A transport without connections, as in tests, reports nothing.
        cut_off = self._traced and isinstance(error, Late | Interrupted)
        return not (self._written or cut_off or isinstance(error, UNOPENED))

    @property
    def _where(self) -> str:
        """Return the host to which no connection could be opened."""
        named = _named(*self._opening)
        return named if self._opening == self._target else f"the proxy at {named}"


def _named(host: str, port: int) -> str:
    """Return host:port, without the braces that `format` would replace."""
    shown = host.replace("{", "").replace("}", "")
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"


# --- on the connection ---


class _Current(threading.local):
    """The bounds of this thread's exchange: the library reads and writes in the thread that calls it."""

    bounds: Bounds | None = None


current = _Current()


class Backend(httpcore.NetworkBackend):
    """Opens connections on which the bounds of the exchange hold."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> "Stream":  # type: ignore[override]
        def connect() -> httpcore.NetworkStream:
            return self._plain.connect_tcp(host, port, timeout, **options)

        # The look-up of a name has no time-out, and each of its addresses has one of its own.
        return Stream(_bounded(connect, timeout))

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)


class Stream(httpcore.NetworkStream):
    """A connection on which every read and write is bounded."""

    def __init__(self, plain: httpcore.NetworkStream) -> None:
        self._plain = plain

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        bounds = current.bounds
        if bounds is None:
            return self._plain.read(max_bytes, timeout)
        waited = timer()
        while True:
            bounds.glance()
            rest = None if timeout is None else timeout - waited()
            if rest is not None and rest <= 0:
                # Without time left the socket would not wait at all, which is another error.
                raise httpcore.ReadTimeout("timed out")
            try:
                data = self._plain.read(max_bytes, min(bounds.left(rest), GLANCE))
            except httpcore.ReadTimeout:
                continue
            else:
                bounds.count(len(data))
                return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        bounds = current.bounds
        for start in range(0, len(buffer), PIECE):
            limit = bounds.left(timeout) if bounds else timeout
            self._plain.write(buffer[start : start + PIECE], limit)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Stream":
        def shake_hands() -> httpcore.NetworkStream:
            return self._plain.start_tls(ssl_context, server_hostname, timeout)

        try:
            return Stream(_bounded(shake_hands, timeout))
        except (Late, Interrupted, httpcore.ConnectTimeout):
            self.close()
            raise

    def close(self) -> None:
        self._plain.close()

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def _bounded(work: Callable[[], httpcore.NetworkStream], timeout: float | None) -> httpcore.NetworkStream:
    """Work in a thread if the work itself has no time-out, and wait no longer than permitted."""
    bounds = current.bounds
    if bounds is None:
        return work()
    waited = timer()
    try:
        done = in_thread("connect", work)
    except RuntimeError:  # no memory for another thread
        return work()
    try:
        while not wait([done], GLANCE).done:
            bounds.glance()
            bounds.left()
            if timeout is not None and waited() >= timeout:
                raise httpcore.ConnectTimeout("timed out")
    except BaseException:
        done.add_done_callback(_close_late)
        raise
    return done.result()


def in_thread(name: str, work: Callable[[], Result]) -> Future[Result]:
    """Start work in a daemon thread, which does not keep the process alive if it hangs."""
    done: Future[Result] = Future()

    def fulfil() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=fulfil, name=name, daemon=True).start()
    return done


def _close_late(done: Future[httpcore.NetworkStream]) -> None:
    """Close a connection that is not needed any more."""
    if not done.exception():
        done.result().close()


# --- why it failed ---

# OpenSSL's codes for a certificate that is not accepted.
CERTIFICATES = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    62: "the certificate is for another host name",
    63: "the certificate is for another host name",
    64: "the certificate is for another address",
}
UNTRUSTED = "the certificate is not trusted"
# OpenSSL's reasons if plain HTTP, or something else that is not TLS, answers.
NOT_TLS = (
    *("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE"),
    *("PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL", "WRONG_SSL_VERSION", "UNEXPECTED_MESSAGE"),
)
SYSTEM = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ECONNABORTED: "connection aborted",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.ENETDOWN: "the network is down",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.EHOSTDOWN: "the host is down",
    errno.ETIMEDOUT: "timed out while connecting",
    errno.EACCES: "this machine does not permit the connection",
    errno.EPERM: "this machine does not permit the connection",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
    errno.EADDRNOTAVAIL: "this machine has no free address or port",
}
# By the library's own kinds of errors, the most specific first.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (httpx.ConnectTimeout, "timed out while connecting"),
    (httpx.PoolTimeout, "no connection became free in time"),
    (httpx.TimeoutException, "timed out"),
    (httpx.ConnectError, "the connection could not be opened"),
    (httpx.ReadError, "the connection broke"),
    (httpx.WriteError, "the connection broke"),
    (httpx.DecodingError, "the answer could not be unpacked"),
    (httpx.UnsupportedProtocol, "the address is neither http nor https"),
    (httpx.LocalProtocolError, "the request cannot be written as HTTP"),
)


def cause(error: BaseException) -> str:
    """Return why an exchange failed, from the error and those that led to it."""
    chain = list(_chain(error))
    texts = [*map(_of_system, reversed(chain)), *map(_of_protocol, chain)]
    texts += [text for link in chain for kind, text in KINDS if isinstance(link, kind)]
    return next(filter(None, texts), "the connection failed")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _of_system(error: BaseException) -> str | None:
    """Return what the operating system or OpenSSL says."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the host name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return CERTIFICATES.get(error.verify_code, UNTRUSTED)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the TLS handshake was cut off"
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    if isinstance(error, TimeoutError):
        # This may be a read or a write, too; the caller knows which.
        return None
    return SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else None


def _of_tls(error: ssl.SSLError) -> str | None:
    reason = error.reason or ""
    if reason in NOT_TLS:
        return "this port does not use TLS (plain HTTP?)"
    if not re.fullmatch("[A-Z0-9_]{1,60}", reason):
        return "the TLS handshake failed"
    return f"the TLS handshake failed ({reason.lower().replace('_', ' ')})"


def _of_protocol(error: BaseException) -> str | None:
    """Return what HTTP shows; of an answer only the status is quoted."""
    if isinstance(error, httpx.ProxyError):
        status = re.match(r"[1-5]\d\d(?!\d)", str(error))
        return f"the proxy refused the tunnel ({status[0]})" if status else "the proxy refused the tunnel"
    if isinstance(error, httpx.RemoteProtocolError):
        text = str(error)
        if "without sending a response" in text:
            return "the server closed the connection without an answer"
        if "closed connection" in text or "incomplete" in text:
            return "the answer was cut off"
        return "the answer is not HTTP"
    return None

"""The one door to Beamer's API: GET only, one attempt at a time, no redirects, a deadline for the whole.

Pacing and budget come as the moment at which a request may go; whether a failed attempt is worth
another is decided outside, since every attempt costs a request.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx

from connector.beamer.asking import Answer, Ask
from connector.beamer.bodies import LARGEST_ANSWER, parsed, unpacked
from connector.beamer.pacing import Pacer, Slot
from connector.clock import Clock, timer
from connector.errors import (
    BadAnswer,
    ConfigurationError,
    Forbidden,
    Gone,
    KeyRefused,
    Stopped,
    TooMany,
    Transient,
    Unreachable,
)

DEADLINE = 30.0
# Connecting, shaking hands, writing and the first byte together take no longer than the deadline.
TIMEOUT = httpx.Timeout(15.0, connect=5.0, write=5.0, pool=5.0)
# Of httpcore's trace: a GET is on its way with its headers.
SENT = "http11.send_request_headers.complete"
NOT_BEAMER = "Something that is not Beamer answered 404."
NO_REDIRECTS = "Redirects are not followed, so that the key does not travel to another host."

# httpx logs whole URLs at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


class Beamer:
    """A Beamer account over HTTP. Safe to use from several threads."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        clock: Clock,
        *,
        per_second: float = 30,
        transport: httpx.BaseTransport | None = None,
        elapsed: Callable[[], Callable[[], float]] = timer,
    ) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._pacer = Pacer(per_second, clock)
        plain = base_url.startswith("http://")
        self._client = _client(
            base_url=base_url,
            headers={"Beamer-Api-Key": api_key, "Accept": "application/json", "Accept-Encoding": "gzip"},
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=32),
            follow_redirects=False,
            # Reading the certificates takes a tenth of a second, and plain http has no use for them. It goes
            # to loopback only: through a proxy, the key would leave the machine unencrypted.
            verify=not plain,
            trust_env=not plain,
            transport=transport,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, ask: Ask, go_at: datetime) -> Answer:
        """Wait for `go_at`, send one request, and give what came back.

        Raises Stopped, KeyRefused, Forbidden, Gone, TooMany, Transient, Unreachable or BadAnswer, none of
        which holds a URL, a key or a body.
        """
        slot = self._pacer.wait(go_at)
        try:
            if self._clock.stopped:
                raise Stopped("The run was asked to stop before this request was sent.")
            status, headers, packed = self._send(ask, slot)
        finally:
            if slot.at is None:
                self._pacer.sent(slot)
        body = unpacked(packed, headers.get("Content-Encoding", ""))
        judge(status, headers, body or b"")
        return Answer(parsed(body), _date(headers))

    def _send(self, ask: Ask, slot: Slot) -> tuple[int, httpx.Headers, bytes]:
        try:
            return self._fetch(ask, slot)
        except httpx.TimeoutException:
            failure = "Beamer did not answer in time."
        except (httpx.TransportError, httpx.DecodingError) as error:
            failure = f"The connection to Beamer failed ({type(error).__name__})."
        # Raised out here, for httpx's errors hold the request, which holds the key.
        raise Transient(failure)

    def _fetch(self, ask: Ask, slot: Slot) -> tuple[int, httpx.Headers, bytes]:
        elapsed = self._elapsed()

        def told(event: str, _: object) -> None:
            # The last time counts: a proxy is asked for a tunnel first.
            if event == SENT:
                self._pacer.sent(slot)

        with self._client.stream(
            "GET", ask.path, params=list(ask.params), extensions={"trace": told}
        ) as response:
            # Packed as it came: unpacked by httpx, a stream without content would escape the deadline.
            chunks = cast(Iterable[bytes], response.stream)
            return response.status_code, response.headers, _read(chunks, elapsed)


def _client(**options: Any) -> httpx.Client:
    """A client with the environment's proxies and certificates; ConfigurationError if those cannot work."""
    try:
        return httpx.Client(**options)
    except ImportError:
        wrong = "A SOCKS proxy is set, for which nothing is installed."
        todo = (
            "Set HTTPS_PROXY or ALL_PROXY to an HTTP proxy, or pip install 'httpx[socks]' 'requests[socks]'."
        )
    except (ValueError, httpx.InvalidURL):
        wrong = "A proxy is set by an address that is none."
        todo = "Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or leave it out."
    except OSError:
        wrong = "The certificates to trust cannot be read."
        todo = "Let SSL_CERT_FILE name a file of certificates in PEM form, SSL_CERT_DIR a folder of them."
    # Raised out here: their own errors quote addresses, and so a proxy's password.
    raise ConfigurationError(wrong, todo=todo)


def _read(chunks: Iterable[bytes], elapsed: Callable[[], float]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        # A timeout of httpx bounds the wait for the next byte, not a body that trickles.
        if elapsed() > DEADLINE:
            raise Transient(f"Beamer's answer was not complete after {DEADLINE:.0f} s.")
        if len(body) > LARGEST_ANSWER:
            raise BadAnswer("Beamer's answer is larger than any page of rows can be")
    return bytes(body)


def judge(status: int, headers: httpx.Headers, body: bytes) -> None:
    """Map a status to what to do next; the one place that does.

    Statuses are those of the API reference; 404 for a deleted parent and 403 for a missing permission
    are from observed-facts.md.
    """
    if 200 <= status < 300:
        return
    if status == 401:
        raise KeyRefused(
            "Beamer does not accept the API key (401).",
            means="Nothing was read; no other collection was tried.",
            todo="Check BEAMER_API_KEY against Settings > API in Beamer.",
        )
    if status == 403:
        raise Forbidden("the key may not read this collection (403)")
    if status == 404:
        # Beamer's errors are bare JSON strings; a proxy's page says nothing of the parent.
        raise (
            Transient(NOT_BEAMER) if body.lstrip().startswith(b"<") else Gone("the parent was deleted (404)")
        )
    if status == 429:
        monthly = b"monthly requests limit" in body
        raise TooMany(
            "too many requests (429)" + ("; the month's limit" if monthly else ""), after=_after(headers)
        )
    if 300 <= status < 400:
        raise Unreachable(f"Beamer's address answers with a redirect ({status}). {NO_REDIRECTS}")
    if status == 408 or status >= 500:
        raise Transient(f"Beamer answered {status}.", after=_after(headers))
    raise BadAnswer(f"Beamer answered {status} to a request as its reference describes it")


def _date(headers: httpx.Headers) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _after(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds; Beamer was never seen to send one, a proxy may."""
    value = headers.get("Retry-After", "")
    return min(float(value), 300.0) if value.isascii() and value.isdigit() else None

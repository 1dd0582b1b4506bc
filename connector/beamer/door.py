"""The one door to Beamer's API: GET only, one attempt at a time, no redirects, a deadline for the whole.

Pacing and budget come as the moment at which a request may go; whether a failed attempt is worth
another is decided outside, since every attempt costs a request.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from connector.clock import Clock, timer
from connector.errors import BadAnswer, Forbidden, Gone, KeyRefused, Stopped, TooMany, Transient, Unreachable

DEADLINE = 30.0
LARGEST_ANSWER = 32 * 1024 * 1024
NO_REDIRECTS = "Redirects are not followed, so that the key does not travel to another host."

# httpx logs whole URLs at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Ask:
    """One GET: a path below the API's base, and its query."""

    path: str
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Parsed JSON, and what Beamer's clock said (its Date header), if it said anything."""

    body: Any
    date: datetime | None


class Beamer:
    """A Beamer account over HTTP. Safe to use from several threads."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        clock: Clock,
        *,
        transport: httpx.BaseTransport | None = None,
        elapsed: Callable[[], Callable[[], float]] = timer,
    ) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Beamer-Api-Key": api_key, "Accept": "application/json"},
            timeout=httpx.Timeout(15.0, connect=10.0),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=32),
            follow_redirects=False,
            transport=transport,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, ask: Ask, go_at: datetime) -> Answer:
        """Wait for `go_at`, send one request, and give what came back.

        Raises Stopped, KeyRefused, Forbidden, Gone, TooMany, Transient, Unreachable or BadAnswer, none of
        which holds a URL, a key or a body.
        """
        self._clock.sleep((go_at - self._clock.now()).total_seconds())
        if self._clock.stopped:
            raise Stopped("The run was asked to stop before this request was sent.")
        try:
            status, headers, body = self._fetch(ask)
        except httpx.TimeoutException:
            raise Transient("Beamer did not answer in time.") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Transient(f"The connection to Beamer failed ({type(error).__name__}).") from None
        judge(status, headers, body)
        return Answer(_json(body), _date(headers))

    def _fetch(self, ask: Ask) -> tuple[int, httpx.Headers, bytes]:
        elapsed = self._elapsed()
        body = bytearray()
        with self._client.stream("GET", ask.path, params=list(ask.params)) as response:
            for chunk in response.iter_bytes():
                body += chunk
                # A timeout of httpx bounds the wait for the next byte, not a body that trickles.
                if elapsed() > DEADLINE or len(body) > LARGEST_ANSWER:
                    raise Transient(f"Beamer's answer was not complete after {DEADLINE:.0f} s.")
            return response.status_code, response.headers, bytes(body)


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
        raise Gone("the parent was deleted (404)")
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


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_int=_parse_int, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise Transient("Beamer's answer was not JSON.") from None


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) < 19 else digits


def _date(headers: httpx.Headers) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)


def _after(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds; Beamer was never seen to send one, a proxy may."""
    value = headers.get("Retry-After", "")
    return min(float(value), 300.0) if value.isascii() and value.isdigit() else None

"""The client of Beamer: GET requests at the account's rate, bounded answers, statuses as errors."""

import json
import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from threading import Lock
from typing import Any

import httpx

from connector.beamer.pagination import Answer, BeamerRequest
from connector.clock import Clock, timer
from connector.errors import (
    BadAnswer,
    ConnectorError,
    Declined,
    Forbidden,
    Gone,
    KeyRefused,
    NotSent,
    Stopped,
    TooMany,
    Transient,
    Unreachable,
)
from connector.http.bounds import Failed, Room, TooLarge
from connector.http.exchange import DEADLINE, Larger, Reply, exchange, open_client, text_of, unpacked
from connector.text import counted

LARGEST_ANSWER = 16 * 1024 * 1024
# On one page: a hundred rows with 2,500 fields each.
MOST_VALUES = 250_000
# Some servers ignore maxResults: an answer may have this many pages' rows, or at least this many rows.
MOST_PAGES, LEAST_ROWS = 4, 100
# In characters: eight times what Segment accepts as a whole message.
LONGEST_TEXT = 256 * 1024
# A longer number is not finite in any language.
MOST_DIGITS = 308

# A string, or a sign before a value. Possessive quantifiers, so that nothing is kept for backtracking.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,:\[{]', re.DOTALL)


def parsed(body: bytes | None, content_type: str = "") -> Any:
    """Parse the JSON of an unpacked body; a wrong byte or sign in a text does not spoil the page."""
    if body is None:
        raise Transient("Beamer's answer could not be unpacked.")
    text = text_of(body, content_type)
    if _too_many_values(text):
        raise BadAnswer("Beamer's answer contains more values than a page of rows can")
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=lambda _: None, strict=False
        )
        # Many answers may wait at the same time, each with a text of many megabytes.
        return _with_shorter_texts(value) if len(text) > LONGEST_TEXT else value
    except RecursionError:
        failure: BadAnswer | Transient = BadAnswer("Beamer's answer is nested too deeply")
    except ValueError:
        failure = Transient("Beamer's answer was not JSON.")
    # Raised here, because the parser's errors hold the body.
    raise failure


def _with_shorter_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, list):
        return [_with_shorter_texts(part) for part in value]
    if isinstance(value, dict):
        return {name: _with_shorter_texts(part) for name, part in value.items()}
    return value


def _too_many_values(text: str) -> bool:
    """Return whether a JSON text may hold too many values: each but the first follows one of four signs.

    A value can take a hundred times as much memory as its text.
    """
    if 1 + sum(text.count(sign) for sign in ",:[{") <= MOST_VALUES:
        return False
    # Texts of users hold commas, too. One by one: a list of all tokens would be as large as the values.
    signs = (token for token in _TOKEN.finditer(text) if text[token.start()] != '"')
    return next(islice(signs, MOST_VALUES - 1, None), None) is not None


def _integer(digits: str) -> int | None:
    """Parse a whole number of any size, so that the values of one attribute keep one type."""
    return int(digits) if len(digits) <= MOST_DIGITS else None


def _float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


# --- the rate ---

# A little more than a second, because the network delays some requests more than others.
WINDOW = timedelta(seconds=1.02)
# In seconds: how long to wait, each time, for a request that has a slot but is not sent yet.
SOON = 0.003


@dataclass(slots=True, eq=False)
class Slot:
    """One request's slot in the window: when it was sent, None before."""

    at: datetime | None = None


class Pacer:
    """A sliding window over the moments at which requests were really sent. Safe to use from threads."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._clock = clock
        self._slots: deque[Slot] = deque(maxlen=max(1, int(per_second)))
        self._lock = Lock()

    def wait(self, go_at: datetime) -> Slot:
        """Wait until a request may be sent: not before `go_at`, nor while the window is full.

        Pass its slot to `sent` when the request is sent, or when it certainly never will be.
        """
        self._clock.sleep((go_at - self._clock.now()).total_seconds())
        slot = Slot()
        while (late := self._claim(slot)) > 0 and not self._clock.stopped:
            self._clock.sleep(late)
        return slot

    def sent(self, slot: Slot) -> None:
        """Start the slot's time now: requests take different times to be sent."""
        slot.at = self._clock.now()

    def _claim(self, slot: Slot) -> float:
        """Take a slot in the window, or return in how many seconds one may be free."""
        with self._lock:
            now = self._clock.now()
            if len(self._slots) == self._slots.maxlen:
                oldest = self._slots[0].at
                if oldest is None:
                    return SOON
                # After a clock was set back, requests do not wait until it has caught up.
                if timedelta(0) <= now - oldest < WINDOW:
                    return (oldest + WINDOW - now).total_seconds()
            self._slots.append(slot)
            return 0.0


# --- the client ---

# Connecting, shaking hands, writing and the first byte together take no longer than the deadline.
TIMEOUT = httpx.Timeout(15.0, connect=5.0, write=5.0, pool=5.0)
NO_CONTENT = 204
NOT_BEAMER = "A server that is not Beamer answered"
BOM = b"\xef\xbb\xbf"
NO_REDIRECTS = "Redirects are not followed, so that the key does not travel to another host."

# One answer at a time is unpacked and parsed: meanwhile several copies of it are in memory.
_READING = Lock()


class BeamerClient:
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
        self._client = open_client(
            base_url,
            base_url=base_url,
            headers={"Beamer-Api-Key": api_key, "Accept": "application/json", "Accept-Encoding": "gzip"},
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=32),
            transport=transport,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, request: BeamerRequest, go_at: datetime) -> Answer:
        """Wait for `go_at`, send one request, and return its answer.

        Raises Stopped, KeyRefused, Forbidden, Gone, TooMany, Transient, Unreachable or BadAnswer, none of
        which holds a URL, a key or a body. After Stopped and NotSent (a Transient), Beamer cannot have
        received the request.
        """
        slot, room = self._pacer.wait(go_at), Room()
        try:
            if self._clock.stopped:
                raise Stopped("A signal stopped the run before this request was sent.")
            answer = self._answer(request, slot, room)
        finally:
            if slot.at is None:
                self._pacer.sent(slot)
            room.give_back()
        if isinstance(answer, ConnectorError):
            raise answer
        return answer

    def _answer(self, request: BeamerRequest, slot: Slot, room: Room) -> Answer | ConnectorError:
        """Return the answer, or its error, without the body: the error is kept for a while."""
        reply = self._send(request, slot, room)
        page = int(dict(request.params).get("maxResults", "1"))
        try:
            with _READING:
                return Answer(_read(reply, page), _date(reply.headers))
        except ConnectorError as error:
            return error.with_traceback(None)

    def _send(self, request: BeamerRequest, slot: Slot, room: Room) -> Reply:
        try:
            return exchange(
                self._client,
                "GET",
                request.path,
                params=list(request.params),
                seconds=DEADLINE,
                elapsed=self._elapsed(),
                stopped=lambda: self._clock.stopped,
                on_sent=lambda: self._pacer.sent(slot),
                room=room,
            )
        except TooLarge as error:
            failure: ConnectorError = BadAnswer(error.describe("Beamer"))
        except Failed as error:
            kind = Transient if error.sent else NotSent
            failure = kind(error.describe("Beamer"), again=not error.endless, slow=error.slow)
        raise failure


def _read(reply: Reply, page: int) -> Any:
    """Return an answer's content; raise the error of its status, or of unusable content.

    `page` is the number of rows that were requested.
    """
    body = _unpacked(reply)
    raise_for_status(reply.status, reply.headers, body or b"")
    if reply.status == NO_CONTENT:
        return []  # some servers answer an empty list so
    rows = parsed(body, reply.headers.get("Content-Type", ""))
    if isinstance(rows, list) and len(rows) > max(LEAST_ROWS, MOST_PAGES * page):
        raise BadAnswer(f"Beamer answered {counted(len(rows), 'row')} to a request for {page:,}")
    return rows


def _unpacked(reply: Reply) -> bytes | None:
    try:
        return unpacked(reply.body, reply.headers.get("Content-Encoding", ""), LARGEST_ANSWER)
    except Larger:
        failure = BadAnswer("Beamer's answer is larger than a page of rows can be")
    # Raised here, because the traceback of the other error holds the body.
    raise failure


def raise_for_status(status: int, headers: httpx.Headers, body: bytes) -> None:
    """Raise the error of a status, which decides what happens next; no other function does that.

    Statuses are those of the API reference; 404 for a deleted parent and 403 for a missing permission were
    observed. Beamer's errors are bare JSON strings. The answer of a gateway, such as a web page, shows
    nothing about the key or a parent, whatever its status is.
    """
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and not _beamers(status, headers, body):
        raise Transient(f"{NOT_BEAMER} {status}.", after=_after(headers))
    if status == 401:
        raise KeyRefused(
            "Beamer does not accept the API key (401).",
            means="Nothing was read; no other stream was tried.",
            todo="Compare BEAMER_API_KEY with the key in Beamer (Settings > API).",
        )
    if status == 403:
        raise Forbidden("the key may not read this stream (403)")
    if status == 404:
        raise Gone("the parent was deleted (404)")
    if status == 429:
        monthly = b"monthly requests limit" in body
        raise TooMany(
            "too many requests (429)" + ("; monthly limit reached" if monthly else ""), after=_after(headers)
        )
    if 300 <= status < 400:
        raise Unreachable(f"Beamer's address answers with a redirect ({status}). {NO_REDIRECTS}")
    if status == 408 or status >= 500:
        raise Transient(f"Beamer answered {status}.", after=_after(headers))
    refusal = Declined if 400 <= status < 500 else BadAnswer
    raise refusal(f"Beamer answered {status} to a request that follows its API reference")


def _beamers(status: int, headers: httpx.Headers, body: bytes) -> bool:
    """Return whether an error may be Beamer's own answer; an empty body or a bare text may be."""
    text = body.removeprefix(BOM).strip()
    kind = headers.get("Content-Type", "").lower()
    if text.startswith(b"<") or kind.startswith(("text/html", "application/xhtml")):
        return False
    # These two are about the key; an object or a list is a gateway's answer.
    return status not in (401, 403) or not text.startswith((b"{", b"["))


def _date(headers: httpx.Headers) -> datetime | None:
    """Return when the answer was made: its date, plus its time in a cache; None if unknown or ambiguous."""
    dates = {*headers.get_list("Date")}
    age = headers.get("Age", "")
    seconds = int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0
    try:
        date = parsedate_to_datetime(dates.pop() if len(dates) == 1 else "")
        date = date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
        return date + timedelta(seconds=seconds)
    except (ValueError, TypeError, OverflowError):
        return None


def _after(headers: httpx.Headers) -> float | None:
    """Return `Retry-After` in seconds; Beamer was never seen to send it, but a proxy may."""
    value = headers.get("Retry-After", "")
    return min(float(value), 300.0) if value.isascii() and value.isdigit() else None

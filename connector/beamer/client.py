"""The client of Beamer: one GET request, its answer read within bounds, its status an error of ours."""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from threading import Lock
from typing import Any

import httpx

from connector.beamer.rate_limit import Pacer, Slot
from connector.beamer.request import Answer, BeamerRequest
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
from connector.http import bodies
from connector.http.exchange import DEADLINE, Failed, Reply, Room, TooLarge, exchange, open_client

LARGEST_ANSWER = 16 * 1024 * 1024
# Of a page: a hundred rows with 2,500 fields each.
MOST_VALUES = 250_000
# Some servers ignore maxResults: an answer may have the rows of so many pages, or so many rows.
MOST_PAGES, LEAST_ROWS = 4, 100
# Of a text, in characters: eight times what Segment takes of a whole message.
LONGEST_TEXT = 256 * 1024
# Of a number: one that is longer is no finite number in any language.
MOST_DIGITS = 308

# A text, or a sign behind which a value stands. Possessive: nothing is kept to go back to.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,:\[{]', re.DOTALL)


def unpacked(body: bytes, encoding: str) -> bytes | None:
    """The body without its packing, or None where it cannot be had."""
    try:
        return bodies.unpacked(body, encoding, LARGEST_ANSWER)
    except bodies.Larger:
        failure = BadAnswer("Beamer's answer is larger than a page of rows can be")
    raise failure


def parsed(body: bytes | None, content_type: str = "") -> Any:
    """The JSON of a body; one byte or sign that is wrong in a text spoils no page."""
    if body is None:
        raise Transient("Beamer's answer could not be unpacked.")
    text = bodies.text_of(body, content_type)
    if _too_many_values(text):
        raise BadAnswer("Beamer's answer contains more values than a page of rows can")
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=lambda _: None, strict=False
        )
        # Answers wait for each other: of many threads each might keep a text of many megabytes.
        return _with_shorter_texts(value) if len(text) > LONGEST_TEXT else value
    except RecursionError:
        failure: BadAnswer | Transient = BadAnswer("Beamer's answer is nested too deeply")
    except ValueError:
        failure = Transient("Beamer's answer was not JSON.")
    # Raised out here, for the parser's errors hold the body.
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
    """Whether a JSON text may hold too many values: each but the first stands behind one of a few signs.

    A value takes a hundred times as much memory as the three bytes that can say it.
    """
    if 1 + sum(text.count(sign) for sign in ",:[{") <= MOST_VALUES:
        return False
    # What people write holds commas, too. One by one: a list of all pieces would be as large as the values.
    signs = (token for token in _TOKEN.finditer(text) if text[token.start()] != '"')
    return next(islice(signs, MOST_VALUES - 1, None), None) is not None


def refuse_too_many_rows(rows: Any, page: int) -> Any:
    """An answer as it is, unless it is a list of many more rows than the page that was asked for."""
    if isinstance(rows, list) and len(rows) > max(LEAST_ROWS, MOST_PAGES * page):
        raise BadAnswer(f"Beamer answered {len(rows):,} rows to a request for {page:,}")
    return rows


def _integer(digits: str) -> int | None:
    """A number whatever its size, so that the values of one attribute keep one type."""
    return int(digits) if len(digits) <= MOST_DIGITS else None


def _float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


# Connecting, shaking hands, writing and the first byte together take no longer than the deadline.
TIMEOUT = httpx.Timeout(15.0, connect=5.0, write=5.0, pool=5.0)
NO_CONTENT = 204
NOT_BEAMER = "A server that is not Beamer answered"
BOM = b"\xef\xbb\xbf"
NO_REDIRECTS = "Redirects are not followed, so that the key does not travel to another host."

# One answer at a time is unpacked and read: of a large one, several copies are in memory until it is.
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
        """Wait for `go_at`, send one request, and give what came back.

        Raises Stopped, KeyRefused, Forbidden, Gone, TooMany, Transient, Unreachable or BadAnswer, none of
        which holds a URL, a key or a body. Stopped and NotSent, which is Transient, are those after which
        Beamer cannot have received the request.
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
        """The answer, or what is wrong with it, which keeps nothing of the body: it is kept for a while."""
        reply = self._send(request, slot, room)
        page = int(dict(request.params).get("maxResults", "1"))
        try:
            with _READING:
                return Answer(refuse_too_many_rows(_read(reply), page), _date(reply.headers))
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


def _read(reply: Reply) -> Any:
    """What an answer holds; raises what its status means, or that it holds nothing of use."""
    body = unpacked(reply.body, reply.headers.get("Content-Encoding", ""))
    raise_for_status(reply.status, reply.headers, body or b"")
    if reply.status == NO_CONTENT:
        # That is how some servers say an empty list.
        return []
    return parsed(body, reply.headers.get("Content-Type", ""))


def raise_for_status(status: int, headers: httpx.Headers, body: bytes) -> None:
    """Map a status to what to do next; the one place that does.

    Statuses are those of the API reference; 404 for a deleted parent and 403 for a missing permission were
    observed. Beamer's errors are bare JSON strings. What a gateway answers instead, such as a web page, says
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
    """Whether an error may be Beamer's own answer; from an empty body or a bare text nobody can tell."""
    said = body.removeprefix(BOM).strip()
    kind = headers.get("Content-Type", "").lower()
    if said.startswith(b"<") or kind.startswith(("text/html", "application/xhtml")):
        return False
    # On these two depends what the key counts for: an object or a list is a gateway's.
    return status not in (401, 403) or not said.startswith((b"{", b"["))


def _date(headers: httpx.Headers) -> datetime | None:
    """When the answer was given: its date, and how long a cache has kept it since. None: not told."""
    # Two that differ tell nothing.
    dates = {*headers.get_list("Date")}
    age = headers.get("Age", "")
    kept = int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0
    try:
        date = parsedate_to_datetime(dates.pop() if len(dates) == 1 else "")
        date = date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
        return date + timedelta(seconds=kept)
    except (ValueError, TypeError, OverflowError):
        return None


def _after(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds; Beamer was never seen to send one, a proxy may."""
    value = headers.get("Retry-After", "")
    return min(float(value), 300.0) if value.isascii() and value.isdigit() else None

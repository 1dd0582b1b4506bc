"""The client of Segment: send one batch with its library, and interpret the answer."""

import atexit
import json
import logging
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from connector.clock import GLANCE, GRACE, Clock
from connector.errors import ConfigurationError, ConnectorError, Exit, Transient, Unreachable, WriteKeyRefused

if TYPE_CHECKING:
    from httpx import Client

# As `segment.analytics.request.post`:
# (write_key, host, *, gzip, timeout, retry_count, batch, sentAt) -> response.
Post = Callable[..., Any]


def interruptible(clock: Clock, post: Post | None = None) -> Post:
    """Return a post in its own thread; after a signal it counts as timed out, and its batch is sent again."""

    def send(*args: Any, **options: Any) -> Any:
        from connector.http.bounds import in_thread

        answer = in_thread("post", partial(post or poster(), *args, **options))
        while not clock.stopped and not wait([answer], GLANCE).done:
            pass
        if not wait([answer], GRACE if clock.stopped else None).done:
            raise TimeoutError("stopped by a signal")
        return answer.result()

    return send


# --- the reason that is kept of a refusal ---

LONGEST = 200
LONGEST_ANSWER = 2_000

# Segment's own words, which help the reader and are not secret.
KNOWN = re.compile(
    "bad|batch|body|bytes|exceeds|expected|field|json|invalid|large|limit|malformed|messages?|missing|must|not|parse|properties|request|required|size|timestamp|too|type|unknown|userid"
).fullmatch

_ESCAPE = re.compile(r"\\u([0-9a-f]{4})", re.IGNORECASE)
_WORD = re.compile(r"\w{3,}|[^\W\x00-\x7f]+")
_GAPS = re.compile(r"\.{3}(?:[\s\W]*\.{3})+")


def reason_of(code: str, said: str, texts: Sequence[str], key: str) -> str:
    """Return a short reason, without words of the answer that also occur in the messages."""
    answer = f"{code}: {said}" if said else code
    for secret in (key, b64encode(f"{key}:".encode()).decode()):  # the two forms in which it is sent
        answer = answer.replace(secret, "...")
    answer = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), answer[:LONGEST_ANSWER])
    content = "\n".join(value for text in texts for value in _strings(json.loads(text))).casefold()

    def shown(word: re.Match[str]) -> str:
        folded = word[0].casefold()
        return word[0] if KNOWN(folded) or (word[0].isascii() and folded not in content) else "..."

    reason = _GAPS.sub("...", _WORD.sub(shown, answer))
    return " ".join(reason.encode("ascii", "ignore").decode().split())[:LONGEST]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, element in value.items():
            yield str(key)
            yield from _strings(element)
    elif isinstance(value, list):
        for element in value:
            yield from _strings(element)
    elif value is not None:
        yield str(value)


# --- the library ---

# Of an answer with its headers: Segment's take a hundredth of this.
MOST_BYTES = 1024 * 1024
# The variables of `requests`: a file or a folder of certificates in PEM form.
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_WARNING = logging.WARNING
LEAST = {
    "segment": logging.CRITICAL,
    "urllib3": _WARNING,
    "requests": _WARNING,
    "charset_normalizer": _WARNING,
}


def silence_library() -> None:
    """Keep the library and its own libraries from logging messages, keys and addresses.

    Nothing is lost: its warnings and errors also reach us as exceptions.
    """
    for name, least in LEAST.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, least))


@cache
def builder(call: Literal["track", "identify"]) -> Callable[..., tuple[bool, dict[str, Any]]]:
    """Return the `track` or `identify` of a client that builds messages and sends none."""
    from segment.analytics.client import Client

    silence_library()
    method: Callable[..., tuple[bool, dict[str, Any]]] = getattr(Client("builds-only", send=False), call)
    return method


@cache
def poster() -> Callable[..., Any]:
    """Return the library's `post`, which sends with our own client.

    The library builds the request and reads the answer. With `requests` it would follow redirects, use a
    login of ~/.netrc, keep cookies for the next write key, and wait without end for a slow answer.
    """
    from segment.analytics import request

    silence_library()
    request._session = Session()
    # It stays open from batch to batch, and no run knows which one is the last.
    atexit.register(request._session.close)
    post: Callable[..., Any] = request.post
    return post


class Session:
    """The part of `requests.Session` that the library uses. Safe to use from several threads."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._clients: dict[str, Client] = {}
        self._lock = Lock()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def post(self, url: str, *, data: bytes, headers: Mapping[str, str], timeout: float) -> "Posted":
        """Send one request; raise Failed, or ConfigurationError if the client cannot work."""
        from connector.http.exchange import DEADLINE, Larger, exchange, open_client, text_of, unpacked

        with self._lock:
            if url not in self._clients:
                self._clients[url] = open_client(url, certificates_of=CERTIFICATES)
        reply = exchange(
            self._clients[url],
            "POST",
            url,
            content=data,
            # An answer is short, but a packed one may be large when unpacked.
            headers={**headers, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=timeout,
            most=MOST_BYTES,
            seconds=self._seconds or DEADLINE,
        )
        try:
            body = unpacked(reply.body, reply.headers.get("Content-Encoding", ""), MOST_BYTES)
        except Larger:
            body = None
        text = text_of(body or b"", reply.headers.get("Content-Type", ""))
        return Posted(reply.status, reply.headers, text, reply.reason)


@dataclass(frozen=True)
class Posted:
    """The part of `requests.Response` that the library and the client use."""

    status_code: int
    headers: Mapping[str, str]
    text: str
    reason: str
    history: tuple[()] = ()

    def json(self) -> Any:
        return json.loads(self.text)


# --- the client ---

# The statuses that the library's own consumer tries again.
RETRYABLE = frozenset({408, 410, 425, 429, 460})
STAYS = "Nothing is lost: unsent messages stay in the outbox."


class Refused(ConnectorError):
    """Raised when Segment refuses a batch for good: for one of its messages, or for all."""

    code = "BS-400"
    exit = Exit.UNREACHABLE
    default_means = "Refused messages are kept."

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"Segment refused a batch with {status} ({reason}).")
        self.status = status
        self.reason = reason


class Redirected(Unreachable):
    """Raised when the host redirects, which is not followed because the key would be sent, too."""

    code = "BS-302"
    default_todo = "Set SEGMENT_HOST or SEGMENT_REGION to the address that the redirect leads to."


class SegmentClient:
    """Posts batches of frozen messages with one write key to one host."""

    def __init__(self, write_key: str, host: str, *, post: Post | None = None, timeout: float = 15.0) -> None:
        self._write_key = write_key
        self._host = host
        self._post = post
        self._timeout = timeout

    def send(self, texts: Sequence[str], sent_at: datetime, *, retries: int = 0) -> None:
        """Post one batch, sent before so many `retries`; return only after Segment has confirmed it."""
        failure = self._attempt(texts, sent_at, retries)
        # Raised outside every `except`: an exception of the library holds the request and so the key.
        if failure is not None:
            raise failure

    def _attempt(self, texts: Sequence[str], sent_at: datetime, retries: int) -> ConnectorError | None:
        from segment.analytics.request import APIError

        from connector.http.bounds import Failed

        post = self._post or poster()
        silence_library()
        try:
            response = post(
                self._write_key,
                self._host,
                gzip=True,
                timeout=self._timeout,
                retry_count=retries,
                batch=[json.loads(text) for text in texts],
                sentAt=sent_at.isoformat(timespec="milliseconds"),
            )
        except APIError as error:
            return self._refusal(error.status, str(error.code), str(error.message), error.response, texts)
        except ConfigurationError as error:
            return ConfigurationError(error.what, means=STAYS, todo=error.todo)
        except Failed as error:
            return Transient(error.describe("Segment"), again=not error.endless)
        except OSError as error:
            return Transient(f"Segment could not be reached ({type(error).__name__}).")
        return self._error_of(response, texts)

    def _error_of(self, response: Any, texts: Sequence[str]) -> ConnectorError | None:
        status = response.status_code
        if response.history:
            return _redirected()
        if not 200 <= status < 300:
            return self._refusal(status, "unknown", "", response, texts)
        if not _succeeded(response):
            return Transient(f"Segment answered {status} without confirming the batch.")
        return None

    def _refusal(
        self, status: int, code: Any, said: Any, response: Any, texts: Sequence[str]
    ) -> ConnectorError:
        if 300 <= status < 400:
            return _redirected()
        if status in (401, 403):
            # A firewall's page shows nothing about the key.
            if response is not None and response.text.lstrip("\ufeff \t\r\n").startswith("<"):
                return Transient(f"A server that is not Segment answered {status}.", after=_after(response))
            return WriteKeyRefused(
                f"Segment refused the write key ({status}).",
                means=STAYS,
                todo="Compare SEGMENT_WRITE_KEY with the source's settings in Segment.",
            )
        if status in RETRYABLE or not 400 <= status < 500:
            return Transient(f"Segment answered {status}.", after=_after(response))
        return Refused(status, reason_of(code, said, texts, self._write_key))


def _succeeded(response: Any) -> bool:
    try:
        body = response.json()
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("success") is True


def _after(response: Any) -> float | None:
    from segment.analytics.request import parse_retry_after

    seconds = parse_retry_after(response) if response is not None else None
    return None if seconds is None else float(seconds)


def _redirected() -> Redirected:
    return Redirected("Segment's address answered with a redirect.")

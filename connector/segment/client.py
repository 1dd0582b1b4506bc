"""The client of Segment: one batch sent with its library, the answer judged."""

import atexit
import json
import logging
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from connector.clock import GLANCE, GRACE, Clock
from connector.errors import ConfigurationError, ConnectorError, Exit, Transient, Unreachable, WriteKeyRefused

if TYPE_CHECKING:
    from httpx import Client

    from connector.http.exchange import Reply


Post = Callable[..., Any]


def interruptible(clock: Clock, post: Post | None = None) -> Post:
    """A post in a thread of its own; stopped by a signal, it counts as timed out, and its batch goes
    again.
    """

    def send(*args: Any, **options: Any) -> Any:
        answer: Future[Any] = Future()
        work = partial(post or poster(), *args, **options)
        # A daemon: a hanging answer must not keep the process.
        Thread(target=_fulfil, args=(answer, work), name="post", daemon=True).start()
        while not clock.stopped and not wait([answer], GLANCE).done:
            pass
        if not wait([answer], GRACE if clock.stopped else None).done:
            raise TimeoutError("stopped by a signal")
        return answer.result()

    return send


def _fulfil(answer: Future[Any], work: Callable[[], Any]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:
        answer.set_exception(error)


LONGEST = 200
LONGEST_ANSWER = 2_000

# Segment's own words, of use to whoever reads the reason, and nobody's secret.
KNOWN = re.compile(
    "bad|batch|body|bytes|exceeds|expected|field|json|invalid|large|limit|malformed|messages?|missing|must|not|parse|properties|request|required|size|timestamp|too|type|unknown|userid"
).fullmatch

_ESCAPE = re.compile(r"\\u([0-9a-f]{4})", re.IGNORECASE)
_WORD = re.compile(r"\w{3,}|[^\W\x00-\x7f]+")
_GAPS = re.compile(r"\.{3}(?:[\s\W]*\.{3})+")


def reason_of(code: str, said: str, texts: Sequence[str], key: str) -> str:
    """A short reason: every word of the answer that also occurs in the messages is left out."""
    answer = f"{code}: {said}" if said else code
    for secret in (key, b64encode(f"{key}:".encode()).decode()):  # as it stands in the two places it is sent
        answer = answer.replace(secret, "...")
    answer = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), answer[:LONGEST_ANSWER])
    held = "\n".join(value for text in texts for value in _strings(json.loads(text))).casefold()
    shown = _WORD.sub(lambda word: _shown(word[0], held), answer)
    return " ".join(_GAPS.sub("...", shown).encode("ascii", "ignore").decode().split())[:LONGEST]


def _shown(word: str, held: str) -> str:
    folded = word.casefold()
    return word if KNOWN(folded) or (word.isascii() and folded not in held) else "..."


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


# Of an answer, headers and all: its own are a hundredth of this.
MOST_BYTES = 1024 * 1024
# As `requests` reads them: a file or a folder of certificates in PEM form.
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

LEAST = {
    "segment": logging.CRITICAL,
    "urllib3": logging.WARNING,
    "requests": logging.WARNING,
    "charset_normalizer": logging.WARNING,
}


def silence_library() -> None:
    """Keep the library and what it stands on from logging messages, keys and addresses.

    The library's own warnings and errors print values and answers; each of them comes back to us
    as an exception besides, so nothing is lost with them.
    """
    for name, least in LEAST.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, least))


@cache
def tracker() -> Callable[..., tuple[bool, dict[str, Any]]]:
    """The `track` of a client that builds messages and sends none."""
    from segment.analytics.client import Client

    silence_library()
    track: Callable[..., tuple[bool, dict[str, Any]]] = Client("builds-only", send=False).track
    return track


@cache
def poster() -> Callable[..., Any]:
    """The library's `post`, which sends by our own client.

    The library puts the request together and reads the answer. What it sends by, `requests`, would follow
    redirects, take a login out of ~/.netrc, keep cookies for the next write key, and wait for ever for an
    answer that drips.
    """
    from segment.analytics import request

    silence_library()
    request._session = Session()
    # It is kept open from batch to batch, and no run knows which one is the last.
    atexit.register(request._session.close)
    post: Callable[..., Any] = request.post
    return post


class Session:
    """As much of `requests.Session` as the library asks for. Safe to use from several threads."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._clients: dict[str, Client] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Close what is kept open."""
        for client in self._clients.values():
            client.close()

    def post(self, url: str, *, data: bytes, headers: Mapping[str, str], timeout: float) -> "Posted":
        """Send one request; raises Failed, or ConfigurationError where its client cannot work."""
        from connector.http.exchange import DEADLINE, exchange, open_client

        with self._lock:
            if url not in self._clients:
                self._clients[url] = open_client(url, certificates_of=CERTIFICATES)
        reply = exchange(
            self._clients[url],
            "POST",
            url,
            content=data,
            # An answer is short, and unpacked it might not be.
            headers={**headers, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=timeout,
            most=MOST_BYTES,
            seconds=self._seconds or DEADLINE,
        )
        return Posted(reply.status, reply.headers, _text(reply), reply.reason)


def _text(reply: "Reply") -> str:
    """The answer's text; none where it cannot be unpacked."""
    from connector.http import bodies

    try:
        plain = bodies.unpacked(reply.body, reply.headers.get("Content-Encoding", ""), MOST_BYTES)
    except bodies.Larger:
        plain = None
    return "" if plain is None else bodies.text_of(plain, reply.headers.get("Content-Type", ""))


@dataclass(frozen=True)
class Posted:
    """As much of a `requests.Response` as the library and the client look at."""

    status_code: int
    headers: Mapping[str, str]
    text: str
    reason: str
    history: tuple[()] = ()

    def json(self) -> Any:
        return json.loads(self.text)


__all__ = ["Post", "Redirected", "Refused", "SegmentClient"]

# As `segment.analytics.request.post`: (write_key, host, *, gzip, timeout, batch, sentAt) -> response.

# Those that the library's own consumer tries again.
RETRYABLE = frozenset({408, 410, 425, 429, 460})
STAYS = "Nothing is lost: unsent messages stay in the outbox."


class Refused(ConnectorError):
    """Segment will never take this batch as it is: some message in it is at fault, or all are."""

    code = "BS-400"
    exit = Exit.UNREACHABLE
    default_means = "Refused messages are kept."

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"Segment refused a batch with {status} ({reason}).")
        self.status = status
        self.reason = reason


class Redirected(Unreachable):
    """The host answered with a redirect, which is never followed: the key would travel with it."""

    code = "BS-302"
    default_todo = "Set SEGMENT_HOST or SEGMENT_REGION to the address that the redirect leads to."


class SegmentClient:
    """Posts batches of frozen messages with one write key to one host."""

    def __init__(self, write_key: str, host: str, *, post: Post | None = None, timeout: float = 15.0) -> None:
        self._write_key = write_key
        self._host = host
        self._given = post
        self._timeout = timeout

    def send(self, texts: Sequence[str], sent_at: datetime) -> None:
        """Post one batch; return only when Segment has confirmed it."""
        failure = self._attempt(texts, sent_at)
        # Raised outside every `except`: an exception of the library holds the request and so the key.
        if failure is not None:
            raise failure

    def _attempt(self, texts: Sequence[str], sent_at: datetime) -> ConnectorError | None:
        from segment.analytics.request import APIError

        from connector.http.exchange import Failed

        post = self._given or poster()
        silence_library()
        try:
            response = post(
                self._write_key,
                self._host,
                gzip=True,
                timeout=self._timeout,
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
            # A firewall's page says nothing of the key.
            page = response is not None and response.text.lstrip("\ufeff \t\r\n").startswith("<")
            if page:
                return Transient(f"A server that is not Segment answered {status}.", after=_after(response))
            return _key_refused(status)
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

    wish = parse_retry_after(response) if response is not None else None
    return None if wish is None else float(wish)


def _redirected() -> Redirected:
    return Redirected("Segment's address answered with a redirect.")


def _key_refused(status: int) -> WriteKeyRefused:
    return WriteKeyRefused(
        f"Segment refused the write key ({status}).",
        means=STAYS,
        todo="Compare SEGMENT_WRITE_KEY with the source's settings in Segment.",
    )

"""The route for Beamer's webhooks: who may send hints, how many and how often; it never waits for a sync."""

import hmac
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import structlog

from connector.beamer.webhooks import MOST_BYTES, Malformed, TooLarge, hints_of
from connector.clock import Clock, timer
from connector.errors import ConnectorError
from connector.reporting.metrics import Sample
from connector.state import hints
from connector.state.engine import Database

log = structlog.get_logger()

PATH = "/webhooks/beamer/"
SECRET_HEADER = "Beamer-Webhook-Secret"  # noqa: S105 - the header's name
# The webhooks of a connection: so many at once, and so many a second.
BURST, PER_SECOND = 40, 20.0
# No connection has a longer address.
LONGEST_PATH = len(PATH) + 40


@dataclass(frozen=True, slots=True)
class Receiver:
    """A connection that accepts hints, with these secrets, for these streams."""

    secrets: Sequence[str]
    streams: Sequence[str]


class Rate:
    """A bucket of requests that fills evenly."""

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self._burst, self._per_second = burst, per_second
        self._elapsed = timer()
        self._level, self._at = burst, 0.0

    def take(self) -> bool:
        """Take one request from the bucket; return False if it is empty."""
        now = self._elapsed()
        self._level = min(self._burst, self._level + (now - self._at) * self._per_second)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Webhooks:
    """Answers requests to the route with a status, and stores the hints of authentic ones.

    `stored` is called with the connection after its hints were stored.
    """

    def __init__(
        self,
        receivers: Mapping[str, Receiver],
        database: Database,
        clock: Clock,
        stored: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._receivers = {name: receiver for name, receiver in receivers.items() if receiver.secrets}
        self._database, self._clock, self._stored = database, clock, stored
        self._lock = Lock()
        self._rates = {name: Rate() for name in self._receivers}
        self._answered: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._receivers)

    def answer(self, method: str, path: str, headers: Mapping[str, str], read: Callable[[int], bytes]) -> int:
        """Return the status; `read` reads so many bytes of the body, only if the body is needed."""
        name = path.removeprefix(PATH)
        known = name in self._receivers and len(path) <= LONGEST_PATH
        try:
            status = self._status(method, name if known else "", headers, read)
        except ConnectorError as error:
            log.warning("hint_not_stored", connection=name, code=error.code)
            status = 503
        with self._lock:
            self._answered[name if known else "", str(status)] += 1
        return status

    def _status(
        self, method: str, name: str, headers: Mapping[str, str], read: Callable[[int], bytes]
    ) -> int:
        if method != "POST":
            return 405
        if not self._is_authentic(name, headers.get(SECRET_HEADER) or ""):
            return 401
        if not _is_plain_json(headers):
            return 415
        length = headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdecimal()) or headers.get("Transfer-Encoding"):
            return 411
        if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            return 413
        with self._lock:
            if not self._rates[name].take():
                return 429
        return self._accept(name, read(int(length)), int(length))

    def _is_authentic(self, name: str, header: str) -> bool:
        """Compare with every secret, and take the same time whether or not the connection is known."""
        receiver = self._receivers.get(name)
        secrets, sent = (receiver or next(iter(self._receivers.values()))).secrets, header.encode()
        equal = [hmac.compare_digest(secret.encode(), sent) for secret in secrets]
        return any(equal) and receiver is not None

    def _accept(self, name: str, body: bytes, length: int) -> int:
        if len(body) < length:
            return 400
        try:
            new = hints_of(body)
        except TooLarge:
            return 413
        except Malformed:
            return 400
        streams = self._receivers[name].streams
        hints.add(self._database, name, [hint for hint in new if hint.stream in streams], self._clock.now())
        self._stored(name)
        return 202

    def samples(self) -> list[Sample]:
        """Return how many requests were answered with each status."""
        with self._lock:
            answered = sorted(self._answered.items())
        return [Sample("webhook_requests_total", labels, count) for labels, count in answered]


def _is_plain_json(headers: Mapping[str, str]) -> bool:
    """Return whether the headers declare JSON in UTF-8, not compressed."""
    kind, _, parameters = (headers.get("Content-Type") or "").lower().partition(";")
    charset = parameters.strip().replace('"', "").replace(" ", "")
    coding = (headers.get("Content-Encoding") or "identity").strip().lower()
    return (
        kind.strip() == "application/json"
        and charset in ("", "charset=utf-8", "charset=utf8")
        and coding == "identity"
    )

"""The one door to Segment: a batch goes through it and is confirmed, or an error says what to do."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from connector.errors import ConfigurationError, ConnectorError, Exit, Transient, Unreachable, WriteKeyRefused
from connector.segment.library import hush, poster
from connector.segment.reason import reason_of

__all__ = ["Post", "Redirected", "Refused", "Segment"]

# As `segment.analytics.request.post`: (write_key, host, *, gzip, timeout, batch, sentAt) -> response.
Post = Callable[..., Any]

# Those that the library's own consumer tries again.
RETRYABLE = frozenset({408, 410, 425, 429, 460})
STAYS = "Nothing is lost: what was not sent stays waiting."


class Refused(ConnectorError):
    """Segment will never take this batch as it is: some message in it is at fault, or all are."""

    code = "BS-400"
    exit = Exit.UNREACHABLE
    default_means = "What it refused is kept."

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"Segment refused a batch with {status} ({reason}).")
        self.status = status
        self.reason = reason


class Redirected(Unreachable):
    """The host answered with a redirect, which is never followed: the key would travel with it."""

    code = "BS-302"
    default_todo = "Set SEGMENT_HOST or SEGMENT_REGION to the address that answers itself."


class Segment:
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
        from requests import RequestException, TooManyRedirects
        from requests.exceptions import InvalidProxyURL, InvalidSchema
        from segment.analytics.request import APIError

        post = self._given or poster()
        hush()
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
        except TooManyRedirects:
            return _redirected()
        except (InvalidSchema, InvalidProxyURL):
            return ConfigurationError(
                "A proxy is set that cannot be used for Segment.",
                means=STAYS,
                todo="Correct HTTPS_PROXY or ALL_PROXY; a SOCKS proxy needs pip install 'requests[socks]'.",
            )
        except RequestException as error:
            return Transient(f"Segment could not be reached ({type(error).__name__}).")
        except OSError as error:
            # requests' own word for a file that is not there; what fails on the way is a RequestException.
            if "CA certificate" not in str(error):
                return Transient(f"Segment could not be reached ({type(error).__name__}).")
            return ConfigurationError(
                "The certificates to trust for Segment cannot be read.",
                means=STAYS,
                todo="Let REQUESTS_CA_BUNDLE name a file of certificates in PEM form.",
            )
        return self._judged(response, texts)

    def _judged(self, response: Any, texts: Sequence[str]) -> ConnectorError | None:
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

"""The sandbox without sockets: a transport for httpx, and a replacement for `post` of Segment's library."""

import base64
import gzip as gz
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from requests import exceptions
from segment.analytics.request import APIError

from connector.sandbox import Request
from connector.sandbox.server import Handle
from tests.sandbox.faults import Faults, FaultyAnswer, faulty


class BeamerTransport(httpx.BaseTransport):
    """Gives requests to the sandbox; a broken connection becomes one of httpx's own errors."""

    def __init__(self, handle: Handle, faults: Faults) -> None:
        self._handle = handle
        self._faults = faults

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = _answer(
            self._handle,
            self._faults,
            Request(
                "beamer",
                request.method,
                request.url.path,
                dict(request.url.params),
                {name.lower(): value for name, value in request.headers.items()},
                request.read(),
            ),
        )
        if answer.mishap == "reset":
            raise httpx.ReadError("Connection reset by peer", request=request)
        if answer.mishap:
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body, request=request)


NOT_BODY = ("proxies", "oauth_manager", "retry_count")


@dataclass(frozen=True)
class Posted:
    """The part of a `requests.Response` that the connector reads."""

    status_code: int
    text: str
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    history: "list[Posted]" = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    @property
    def content(self) -> bytes:
        return self.text.encode()

    def json(self) -> Any:
        return json.loads(self.text)


def post(
    handle: Handle,
    faults: Faults,
    write_key: str,
    host: str | None,
    gzip: bool,
    timeout: float,
    body: dict[str, Any],
) -> Posted:
    """Send a batch as the library does, and follow redirects and raise errors as it does."""
    url = (host or "https://api.segment.io").rstrip("/") + "/v1/batch"
    request = _request(write_key, url, gzip, {name: body[name] for name in body if name not in NOT_BODY})
    if retries := body.get("retry_count"):
        request = replace(request, headers={**request.headers, "x-retry-count": str(retries)})
    posted = _send(handle, faults, request, url)
    if 300 <= posted.status_code < 400 and "Location" in posted.headers:
        target = posted.headers["Location"]
        followed = Request("segment", "GET", urlsplit(target).path, {}, request.headers)
        arrived = _send(handle, faults, followed, target)
        posted = Posted(arrived.status_code, arrived.text, target, arrived.headers, [posted])
    if not 200 <= posted.status_code < 300:
        raise _error(posted)
    return posted


def _request(write_key: str, url: str, gzip: bool, body: dict[str, Any]) -> Request:
    body = {"sentAt": datetime.now(UTC).isoformat(), **body, "writeKey": write_key}
    data = json.dumps(body, default=_iso_date).encode()
    credentials = base64.b64encode(f"{write_key}:".encode()).decode()
    headers = {"content-type": "application/json", "authorization": f"Basic {credentials}"}
    if gzip:
        headers["content-encoding"] = "gzip"
        data = gz.compress(data, 1)
    return Request("segment", "POST", urlsplit(url).path, {}, headers, data)


def _iso_date(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _send(handle: Handle, faults: Faults, request: Request, url: str) -> Posted:
    answer = _answer(handle, faults, request)
    if answer.mishap == "reset":
        raise exceptions.ConnectionError("Connection reset")
    if answer.mishap:
        raise exceptions.ReadTimeout("Read timed out")
    return Posted(answer.status, answer.body.decode(errors="replace"), url, answer.headers)


def _answer(handle: Handle, faults: Faults, request: Request) -> FaultyAnswer:
    answer = faulty(handle(request))
    if answer.delay and faults.sleep:
        faults.sleep(answer.delay)
    return answer


def _error(posted: Posted) -> APIError:
    code, message = "unknown", posted.text
    try:
        payload = posted.json()
        code, message = payload["code"], payload["message"]
    except (ValueError, KeyError, TypeError):
        pass
    return APIError(posted.status_code, code, message, posted)

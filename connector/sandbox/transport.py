"""Beamer for httpx without sockets."""

from collections.abc import Callable

import httpx

from connector.sandbox.faults import Faults
from connector.sandbox.message import Answer, Request


class BeamerTransport(httpx.BaseTransport):
    """Hands requests to the sandbox; mishaps become httpx's own errors."""

    def __init__(self, handle: Callable[[Request], Answer], faults: Faults) -> None:
        self._handle = handle
        self._faults = faults

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._handle(
            Request(
                "beamer",
                request.method,
                request.url.path,
                dict(request.url.params),
                {name.lower(): value for name, value in request.headers.items()},
                request.read(),
            )
        )
        if answer.delay and self._faults.sleep:
            self._faults.sleep(answer.delay)
        if answer.mishap == "reset":
            raise httpx.ReadError("Connection reset by peer", request=request)
        if answer.mishap:
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body, request=request)

"""A request and its answer, the same for sockets and in process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Api = Literal["beamer", "segment"]
Mishap = Literal["", "reset", "hang", "trickle"]


@dataclass(frozen=True)
class Request:
    """One request as either API sees it; header names are in lower case.

    `arrived`: when, by a monotonic clock in seconds, if it came by a socket. A rate limiter stands in front:
    what waits for its turn inside has been counted.
    """

    api: Api
    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    arrived: float | None = None


@dataclass
class Answer:
    """What goes back, and what goes wrong on the way back."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    mishap: Mishap = ""
    delay: float = 0.0


@dataclass(frozen=True)
class RequestSeen:
    """A line of the sandbox's log; a status of 0 is a connection lost before any work was done."""

    at: datetime
    api: Api
    method: str
    path: str
    params: dict[str, str]
    status: int

"""A request and its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Api = Literal["beamer", "segment"]


@dataclass(frozen=True)
class Request:
    """One request as either API sees it; header names are in lower case.

    `arrived`: seconds of a monotonic clock, if it came over a socket. The rate limits count from this moment,
    not from when the answer is worked out.
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
    """The answer of either API."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

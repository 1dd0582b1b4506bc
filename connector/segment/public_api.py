"""The client of Segment's Public API: a source's settings, and its counts."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from connector.clock import Clock
from connector.errors import ConnectorError, Exit, KeyRefused

if TYPE_CHECKING:
    from httpx import Client

    from connector.http.exchange import Reply

ADDRESSES = {"us": "https://api.segmentapis.com", "eu": "https://eu1.api.segmentapis.com"}
MOST_BYTES = 8 * 1024 * 1024
ATTEMPTS, LONGEST_WAIT = 3, 30.0
PAGE, MOST_PAGES = 200, 50
# Segment keeps hourly counts for 30 days, and returns at most 14 of them at once.
OLDEST, AT_ONCE = timedelta(days=30), timedelta(days=14)

Json = dict[str, Any]
Params = tuple[tuple[str, str], ...]


class NotProven(ConnectorError):
    """Raised when Segment's Public API does not answer a question; deliveries are not affected."""

    code = "BS-085"
    exit = Exit.UNREACHABLE
    default_means = "Events are sent all the same; what Segment does with them is not proven."


class TokenRefused(KeyRefused):
    """Raised when the Public API refuses the token, or a request of it."""

    default_means = NotProven.default_means


@dataclass(frozen=True, slots=True)
class Source:
    """A source; `write_keys` is empty for a token without the right to see them."""

    id: str
    name: str
    enabled: bool
    write_keys: tuple[str, ...]
    tracking_plan: str | None = None


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What a source does with events that its tracking plan does not know, or that violate it."""

    unplanned_blocked: bool = False
    violations_blocked: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """How many events of a name were counted in the hour that begins at `hour`."""

    event: str
    hour: datetime
    count: int


class PublicApi:
    """One workspace, accessed with a token."""

    def __init__(self, token: str, address: str, clock: Clock) -> None:
        self._token = token
        self._address = address.rstrip("/")
        self._clock = clock
        self._client: Client | None = None

    def close(self) -> None:
        if self._client:
            self._client.close()

    # --- what it tells ---

    def source(self, source_id: str) -> Source | None:
        """Return a source; None if the workspace has none with this id."""
        with suppress(_Absent):
            data = self._get(f"/sources/{_segment(source_id)}")
            return _source(data.get("source"), data.get("trackingPlanId"))
        return None

    def source_of(self, write_key: str) -> tuple[Source | None, bool]:
        """Return the source that has a write key, and whether the token may see write keys at all."""
        visible = False
        for raw in self._pages("/sources", "sources"):
            source = _source(raw)
            visible = visible or bool(source.write_keys)
            if write_key in source.write_keys:
                return self.source(source.id), True
        return None, visible

    def destinations(self, source: Source) -> list[tuple[str, bool]]:
        """Return the names of a source's destinations, warehouses included, and whether each is enabled."""
        rows = [
            row
            for kind in ("destinations", "warehouses")
            for row in self._pages(f"/sources/{_segment(source.id)}/connected-{kind}", kind)
        ]
        return [(str(row.get("name") or row.get("id")), row.get("enabled") is True) for row in rows]

    def rules(self, source: Source) -> list[Json]:
        """Return the rules of the source's tracking plan."""
        if source.tracking_plan is None:
            return []
        return list(self._pages(f"/tracking-plans/{_segment(source.tracking_plan)}/rules", "rules"))

    def plan_settings(self, source: Source) -> PlanSettings:
        """Return what the source blocks."""
        track = self._get(f"/sources/{_segment(source.id)}/settings").get("settings", {}).get("track", {})
        return PlanSettings(
            track.get("allowUnplannedEvents") is False,
            track.get("commonEventOnViolations") == "BLOCK" or track.get("allowEventOnViolations") is False,
        )

    def received(self, source: Source, since: datetime, until: datetime) -> list[Volume]:
        """Return how many events Segment received in the hours of a range."""
        params = (*_range(since, until), ("groupBy[0]", "eventName"), ("sourceId[0]", source.id))
        return [
            volume for group in self._pages("/events/volume", "result", params) for volume in _series(group)
        ]

    def discarded(self, what: str, source: Source, since: datetime, until: datetime) -> list[Volume] | None:
        """Return how many were `filtered-at-source` or `failed-on-ingest`; None if not available."""
        params = (*_range(since, until), ("groupBy[0]", "eventName"), ("sourceId", source.id))
        try:
            groups = list(self._pages(f"/delivery-overview/{what}", "dataset", params))
        except (_Absent, TokenRefused):
            return None
        return [volume for group in groups for volume in _series(group)]

    # --- requests ---

    def _pages(self, path: str, name: str, params: Params = ()) -> Iterator[Json]:
        cursor: Params = ()
        for _ in range(MOST_PAGES):
            data = self._get(path, (*params, ("pagination[count]", str(PAGE)), *cursor))
            listed = data.get(name)
            if not isinstance(listed, list):
                raise _strange(path)
            yield from (row for row in listed if isinstance(row, dict))
            after = (data.get("pagination") or {}).get("next")
            if not after:
                return
            cursor = (("pagination[cursor]", str(after)),)
        raise NotProven(f"Segment's Public API lists {name} without end.")

    def _get(self, path: str, params: Params = ()) -> Json:
        failures = 0
        while True:
            answer, wait = self._attempt(path, params)
            if not isinstance(answer, ConnectorError):
                return answer
            failures += 1
            if wait is None or failures == ATTEMPTS or wait > LONGEST_WAIT or self._clock.stopped:
                # Raised outside every `except`: a library's exception holds the request and so the token.
                raise answer
            self._clock.sleep(wait)

    def _attempt(self, path: str, params: Params) -> tuple[Json | ConnectorError, float | None]:
        """Return the answer's data; or what went wrong, and in how many seconds to try again."""
        from connector.http.bounds import Failed
        from connector.http.exchange import exchange, open_client

        self._client = self._client or open_client(self._address)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        try:
            reply = exchange(
                self._client,
                "GET",
                self._address + path,
                params=list(params),
                headers={**headers, "Accept-Encoding": "identity"},
                most=MOST_BYTES,
                stopped=lambda: self._clock.stopped,
            )
        except Failed as error:
            return NotProven(error.describe("Segment's Public API")), 2.0
        return _outcome(reply, path)


class _Absent(NotProven):
    """Raised when the requested object does not exist, or the plan does not offer it."""


def _outcome(reply: "Reply", path: str) -> tuple[Json | ConnectorError, float | None]:
    status = reply.status
    if status in (401, 403):
        return TokenRefused(
            f"Segment's Public API refuses the token ({status}) for {path}.",
            todo="Set SEGMENT_PUBLIC_API_TOKEN to a token of this workspace that may read its sources, and "
            "SEGMENT_REGION to the workspace's region: a token of the other region is refused, too.",
        ), None
    if status == 404:
        return _Absent(f"Segment's Public API does not know {path}."), None
    if status == 429 or status >= 500:
        return NotProven(f"Segment's Public API answered {status}."), _after(reply)
    if status != 200:
        return NotProven(f"Segment's Public API answered {status} to {path}."), None
    data = _data(reply.body)
    return (_strange(path), None) if data is None else (data, None)


def _after(reply: "Reply") -> float:
    with suppress(ValueError):
        return max(0.0, float(reply.headers.get("Retry-After", "2")))
    return 2.0


def _data(body: bytes) -> Json | None:
    try:
        data = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _strange(path: str) -> NotProven:
    return NotProven(f"Segment's Public API answered {path} in a form that is not known.")


def _segment(name: str) -> str:
    """Return a part of a path, quoted."""
    from urllib.parse import quote

    return quote(name, safe="")


def _source(raw: Any, plan: Any = None) -> Source:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
        raise _strange("/sources")
    keys = raw.get("writeKeys")
    return Source(
        raw["id"],
        str(raw.get("name") or raw.get("slug") or raw["id"]),
        raw.get("enabled") is True,
        tuple(str(key) for key in keys) if isinstance(keys, list) else (),
        plan if isinstance(plan, str) else None,
    )


def _range(since: datetime, until: datetime) -> Params:
    return (
        ("granularity", "HOUR"),
        ("startTime", f"{since:%Y-%m-%dT%H:%M:%SZ}"),
        ("endTime", f"{until:%Y-%m-%dT%H:%M:%SZ}"),
    )


def _series(group: Json) -> Iterator[Volume]:
    series = group.get("series")
    for point in series if isinstance(series, list) else ():
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            hour = datetime.fromisoformat(point["time"])
            if hour.tzinfo and point["count"]:
                yield Volume(str(group.get("eventName") or ""), hour, int(point["count"]))


def chunks(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield a range in parts of the length that Segment returns at once."""
    while since < until:
        end = min(since + AT_ONCE, until)
        yield since, end
        since = end

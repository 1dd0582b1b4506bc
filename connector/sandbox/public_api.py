"""The Public API of Segment: the settings of its sources, and its counts."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.sandbox.rows import moment
from connector.sandbox.server import Answer, Request

Json = dict[str, Any]
WORKSPACE = "sandbox-workspace"
JSON_TYPE = {"Content-Type": "application/json"}
PREFIXES = ("/sources", "/tracking-plans", "/events/volume", "/delivery-overview")
HOUR = timedelta(hours=1)
# In the words of the vendor's own answers.
OPTION = {"name": "writeKey", "type": "string", "required": True}


@dataclass
class Source:
    """One source: its keys, whether it is enabled, its destinations, and what it blocks.

    `destinations` by name, with whether each is enabled. `rules` of its tracking plan, None without one.
    """

    id: str
    write_keys: set[str]
    enabled: bool = True
    destinations: dict[str, bool] = field(default_factory=lambda: {"Warehouse": True})
    rules: list[Json] | None = None
    unplanned_blocked: bool = False
    blocked: set[str] = field(default_factory=set)

    def blocks(self, event: str) -> bool:
        """Return whether the schema or the tracking plan drops an event."""
        planned = {rule["key"] for rule in self.rules or ()}
        return event in self.blocked or (self.unplanned_blocked and event not in planned)


@dataclass(frozen=True)
class Counted:
    """A message that was counted: as `received`, `filtered` or `failed`."""

    at: datetime
    source: str
    event: str
    stage: str


class NotFound(Exception):
    """Raised when there is nothing at this path."""


class PublicApi:
    """Answers about the sources of one workspace; its counts show `lag` seconds after a message came."""

    def __init__(self, sources: list[Source], token: str) -> None:
        self.sources = sources
        self.token = token
        self.lag = 0.0
        self.shows_write_keys = True
        self.offers_overview = True
        self.counted: list[Counted] = []

    def count(self, now: float, source: Source, event: str, stage: str) -> None:
        self.counted.append(Counted(moment(now), source.id, event, stage))

    def answer(self, request: Request, now: float) -> Answer:
        """Return the answer to a request."""
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "unauthenticated", "The token is not valid.")
        if request.method != "GET":
            return _error(405, "method-not-allowed", "The sandbox only answers.")
        try:
            data = self._data(request, moment(now))
        except NotFound:
            return _error(404, "not-found", "Not found.")
        except (KeyError, ValueError):
            return _error(400, "validation", "A parameter is missing or wrong.")
        return Answer(200, json.dumps({"data": data}).encode(), dict(JSON_TYPE))

    def _data(self, request: Request, now: datetime) -> Json:
        match request.path.strip("/").split("/"):
            case ["sources"]:
                return _page("sources", [self._source(source) for source in self.sources], request.params)
            case ["sources", name]:
                source = self._of(name)
                plan = None if source.rules is None else f"plan-of-{source.id}"
                return {"source": self._source(source), "trackingPlanId": plan}
            case ["sources", name, "connected-destinations"]:
                destinations = [_destination(self._of(name), label) for label in self._of(name).destinations]
                return _page("destinations", destinations, request.params)
            case ["sources", name, "connected-warehouses"]:
                self._of(name)
                return _page("warehouses", [], request.params)
            case ["sources", name, "settings"]:
                return {"sourceId": name, "settings": {"track": _settings(self._of(name))}}
            case ["tracking-plans", name, "rules"]:
                rules = self._of(name.removeprefix("plan-of-")).rules
                return _page("rules", [{"version": 1, **rule} for rule in rules or ()], request.params)
            case ["events", "volume"]:
                return self._volume(request.params, now)
            case ["delivery-overview", stage] if self.offers_overview:
                return self._overview(stage, request.params, now)
        raise NotFound

    def _of(self, name: str) -> Source:
        for source in self.sources:
            if source.id == name:
                return source
        raise NotFound

    def _source(self, source: Source) -> Json:
        return {
            "id": source.id,
            "slug": source.id,
            "name": source.id,
            "workspaceId": WORKSPACE,
            "enabled": source.enabled,
            "writeKeys": sorted(source.write_keys) if self.shows_write_keys else [],
            "metadata": {
                "id": "http-api",
                "name": "HTTP API",
                "slug": "http-api",
                "description": "Made up",
                "logos": {"default": "https://sandbox.invalid/logo.svg"},
                "options": [OPTION],
                "categories": ["Server"],
                "isCloudEventSource": False,
            },
            "settings": {},
            "labels": [],
        }

    # --- counts ---

    def _volume(self, params: Mapping[str, str], now: datetime) -> Json:
        since, until = _range(params, now)
        source = self._of(params["sourceId[0]"])
        groups = [
            {
                "source": {"id": source.id},
                "eventName": event,
                "total": sum(series.values()),
                "series": _points(series),
            }
            for event, series in self._series(source, ("received",), since, until, now)
        ]
        query = {
            "workspaceId": WORKSPACE,
            "granularity": params["granularity"],
            "startTime": params["startTime"],
            "endTime": params["endTime"],
            "groupBy": [params["groupBy[0]"]],
            "sourceId": [source.id],
        }
        return {"path": "/events/volume", "query": query, **_page("result", groups, params)}

    def _overview(self, stage: str, params: Mapping[str, str], now: datetime) -> Json:
        since, until = _range(params, now)
        stages = {
            "successfully-received": ("received", "filtered"),
            "filtered-at-source": ("filtered",),
            "failed-on-ingest": ("failed",),
        }
        if stage not in stages:
            raise NotFound
        groups: list[Json] = [
            {"eventName": event, "total": sum(series.values()), "series": _points(series)}
            for event, series in self._series(self._of(params["sourceId"]), stages[stage], since, until, now)
        ]
        return {"total": sum(group["total"] for group in groups), **_page("dataset", groups, params)}

    def _series(
        self, source: Source, stages: tuple[str, ...], since: datetime, until: datetime, now: datetime
    ) -> Iterator[tuple[str, Counter[datetime]]]:
        by_event: dict[str, Counter[datetime]] = {}
        shown = now - timedelta(seconds=self.lag)
        for message in self.counted:
            if (
                message.source == source.id
                and message.stage in stages
                and since <= message.at < until
                and message.at <= shown
            ):
                hour = message.at.replace(minute=0, second=0, microsecond=0)
                by_event.setdefault(message.event, Counter())[hour] += 1
        yield from sorted(by_event.items())


def _range(params: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    """Return the range of a request for hours; raise ValueError if Segment refuses it."""
    since, until = (datetime.fromisoformat(params[name]).astimezone(UTC) for name in ("startTime", "endTime"))
    if (
        params["granularity"] != "HOUR"
        or until - since > timedelta(days=14)
        or now - since > timedelta(days=30)
    ):
        raise ValueError
    return since, until


def _points(series: Counter[datetime]) -> list[Json]:
    return [
        {"time": f"{hour:%Y-%m-%dT%H:%M:%S.000Z}", "count": count} for hour, count in sorted(series.items())
    ]


def _page(name: str, rows: list[Json], params: Mapping[str, str]) -> Json:
    """Return one page of a list; the cursor is the number of its first row."""
    start, count = int(params.get("pagination[cursor]", "0")), int(params.get("pagination[count]", "100"))
    if not 1 <= count <= 1000:
        raise ValueError
    after = start + count
    pagination: Json = {"current": str(start), "totalEntries": len(rows)}
    if after < len(rows):
        pagination["next"] = str(after)
    return {name: rows[start:after], "pagination": pagination}


def _destination(source: Source, name: str) -> Json:
    return {
        "id": f"{source.id}-{name}",
        "name": name,
        "enabled": source.destinations[name],
        "sourceId": source.id,
        "settings": {},
        "metadata": {
            "id": "webhooks",
            "name": name,
            "description": "Made up",
            "slug": "webhooks",
            "logos": {"default": "https://sandbox.invalid/logo.svg"},
            "options": [],
            "status": "PUBLIC",
            "previousNames": [],
            "categories": [],
            "website": "https://sandbox.invalid",
            "components": [],
            "supportedFeatures": {},
            "supportedMethods": {},
            "supportedPlatforms": {},
            "actions": [],
            "presets": [],
        },
    }


def _settings(source: Source) -> Json:
    return {
        "allowUnplannedEvents": not source.unplanned_blocked,
        "allowUnplannedEventProperties": True,
        "allowEventOnViolations": True,
        "allowPropertiesOnViolations": True,
        "commonEventOnViolations": "ALLOW",
    }


def _error(status: int, kind: str, text: str) -> Answer:
    body = {"errors": [{"type": kind, "message": text}]}
    return Answer(status, json.dumps(body).encode(), dict(JSON_TYPE))

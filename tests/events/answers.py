"""Answers of the Public API of the sandbox, each with its type in the package of the vendor."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from connector.sandbox import Request
from connector.segment.events import tracking_plan
from tests.sandbox import Sandbox

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
OVERVIEW = "GetEgressFailedMetricsFromDeliveryOverview200Response"
HOURS = "granularity=HOUR&startTime=2026-03-01T00:00:00Z&endTime=2026-03-01T13:00:00Z&groupBy[0]=eventName"
# Paths as the connector asks for them.
PATHS = {
    "/sources": "ListSources200Response",
    "/sources?pagination[count]=1": "ListSources200Response",
    "/sources/sandbox-source": "GetSource200Response",
    "/sources/sandbox-source/connected-destinations": "ListConnectedDestinationsFromSource200Response",
    "/sources/sandbox-source/connected-warehouses": "ListConnectedWarehousesFromSource200Response",
    "/sources/sandbox-source/settings": "ListSchemaSettingsInSource200Response",
    "/tracking-plans/plan-of-sandbox-source/rules": "ListRulesFromTrackingPlan200Response",
    f"/events/volume?{HOURS}&sourceId[0]=sandbox-source": "GetEventsVolumeFromWorkspace200Response",
    f"/delivery-overview/successfully-received?{HOURS}&sourceId=sandbox-source": OVERVIEW,
    f"/delivery-overview/filtered-at-source?{HOURS}&sourceId=sandbox-source": OVERVIEW,
    f"/delivery-overview/failed-on-ingest?{HOURS}&sourceId=sandbox-source": OVERVIEW,
    "/sources/nowhere": "RequestErrorEnvelope",
    "/events/volume": "RequestErrorEnvelope",
}


class TypedAnswer(NamedTuple):
    """An answer's body, and the name of its type in the vendor's package."""

    path: str
    type: str
    body: Any


def answers() -> Iterator[TypedAnswer]:
    """Yield an answer to every path, of a source with a plan and without, with counts and without."""
    for number in range(2):
        sandbox = Sandbox(now=NOW)
        source, api = sandbox.segment.sources[0], sandbox.segment.public_api
        if number:
            source.rules = tracking_plan()["rules"]
            source.destinations["Amplitude"] = False
            sandbox.segment.sources.append(type(source)("another", {"another-key"}, enabled=False))
            for stage in ("received", "filtered", "failed"):
                for hours in (1, 1, 3):
                    at = (NOW - timedelta(hours=hours)).timestamp()
                    api.count(at, source, "Post Commented", stage)
        for path, kind in PATHS.items():
            if number or "tracking-plans" not in path:
                yield TypedAnswer(path, kind, _body(sandbox, path))


def _body(sandbox: Sandbox, path: str) -> Any:
    url = urlsplit(path)
    headers = {"authorization": f"Bearer {sandbox.segment.public_api.token}"}
    params = dict(parse_qsl(url.query))
    return json.loads(sandbox.handle(Request("segment", "GET", url.path, params, headers)).body)

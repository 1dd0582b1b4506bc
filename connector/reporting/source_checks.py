"""Checks of the Segment source, by its Public API: enabled, with destinations, and with a fitting plan."""

from collections.abc import Collection, Iterator
from datetime import datetime

from connector.errors import Exit
from connector.reporting.checks import Finding
from connector.reporting.proof import find_source, without_destination
from connector.segment.events import EVENTS
from connector.segment.plan import compare_plan
from connector.segment.public_api import PublicApi, Source
from connector.state.engine import Database
from connector.text import counted

INSTALL = (
    "Install it: `beamer-segment events --format tracking-plan` prints the rules for Segment's Public API."
)


def source_findings(
    database: Database,
    api: PublicApi,
    write_key: str,
    source_id: str | None,
    streams: Collection[str],
    now: datetime,
) -> Iterator[Finding]:
    """Yield the findings about the source of a write key."""
    source, problem = find_source(database, api, write_key, source_id)
    if problem:
        yield Finding("source", "error", problem.found, problem.todo, int(Exit.CONFIGURATION))
    elif source and not source.write_keys:
        yield Finding(
            "source",
            "warning",
            f"The Segment source '{source.name}' is enabled. That the write key is its own is not proven: "
            "the token may not see write keys.",
            "Use a token of a source admin.",
        )
    elif source:
        yield Finding("source", "ok", f"The Segment source '{source.name}' is enabled and has the write key.")
    if source:
        yield _destinations(api, source, now)
        yield from _plan(api, source, streams)


def _destinations(api: PublicApi, source: Source, now: datetime) -> Finding:
    destinations = api.destinations(source)
    if problem := without_destination(destinations, now):
        return Finding("destinations", "warning", problem.found, problem.todo)
    enabled = [name for name, is_enabled in destinations if is_enabled]
    return Finding(
        "destinations", "ok", f"{counted(len(enabled), 'destination')} enabled: {', '.join(enabled)}."
    )


def _plan(api: PublicApi, source: Source, streams: Collection[str]) -> Iterator[Finding]:
    settings = api.plan_settings(source)
    if source.tracking_plan is None and not settings.unplanned_blocked:
        yield Finding("tracking plan", "ok", "The source has none: no event is blocked by one.")
        return
    differences = compare_plan(api.rules(source), settings)
    sent = {event.name for event in EVENTS.values() if event.stream in streams}
    if blocked := [name for name in differences.blocked if name in sent]:
        yield Finding(
            "tracking plan",
            "error",
            f"The source blocks {', '.join(blocked)}: Segment answers 200 and discards them for good.",
            f"{INSTALL} Or permit unplanned events in the source's Schema settings.",
            int(Exit.CONFIGURATION),
        )
    if unknown := [name for name in differences.unknown if name in sent]:
        yield Finding(
            "tracking plan", "warning", f"The tracking plan does not know {', '.join(unknown)}.", INSTALL
        )
    if differing := [name for name in differences.differing if name in sent]:
        yield Finding(
            "tracking plan",
            "warning",
            f"The tracking plan describes {', '.join(differing)} otherwise than this version sends.",
            INSTALL,
        )
    if not blocked and not unknown and not differing:
        yield Finding("tracking plan", "ok", "The tracking plan describes every event as it is sent.")

"""Rows as the API writes them: numbers and booleans mostly as strings."""

import json
from typing import Any

from connector.sandbox.people import DAY
from connector.sandbox.row import Fields, Row, iso
from connector.sandbox.switches import Switches
from connector.sandbox.world import World

COUNTERS = {
    "posts": ("feedbacks", "positiveReactions", "neutralReactions", "negativeReactions"),
    "feature_requests": ("votesCount", "commentsCount"),
}
METRICS = ("views", "uniqueViews", "clicks")
NUMBERS_ANYWAY = {"score", "votesCount", "userCustomAttributes"}
NATIVE_NUMBERS = {"views", "uniqueViews", "clicks", "commentsCount", *COUNTERS["posts"]}
NATIVE_BOOLEANS = {
    *("published", "pinned", "showInWidget", "showInStandalone", "autoOpen", "feedbackEnabled"),
    *("reactionsEnabled", "visible", "actionComment", "archived"),
}


def render(row: Row, world: World, switches: Switches) -> bytes:
    """A row's JSON, kept until something in it changes."""
    counts = _counts(row, world, switches)
    untold = switches.nps_text_later and row.text_s > world.now
    key = (row.version, counts, untold, switches.native_types)
    if row.cache and row.cache[0] == key:
        return row.cache[1]
    fields: Fields = {"id": row.id, "date": iso(row.date_s), **row.fields}
    if row.stream in COUNTERS:
        named = _named(row.stream, counts)
        # A counter set by hand stays, as a test may want one that lies; metrics go on from there.
        fields = {**named, **fields, **{name: named[name] for name in METRICS if name in named}}
    if untold:
        fields["feedback"] = ""
    typed = {name: _typed(name, value, row.stream, switches.native_types) for name, value in fields.items()}
    body = json.dumps(typed, ensure_ascii=False).encode()
    row.cache = (key, body)
    return body


def _counts(row: Row, world: World, switches: Switches) -> tuple[int, ...]:
    if row.stream not in COUNTERS:
        return ()
    at = world.now - switches.counters_lag.total_seconds()
    tallies = (world.tally(name, row.id) for name in COUNTERS[row.stream])
    ignore = switches.counters_ignore_deletions
    counts = tuple(tally.at(at, ignore_deletions=ignore) if tally else 0 for tally in tallies)
    return counts + _metrics(row, world) if row.stream == "posts" else counts


def _metrics(row: Row, world: World) -> tuple[int, ...]:
    now = min(world.now, world.opened) if world.company.still else world.now
    days = max(0.0, (now - row.starts_s) / DAY) if row.appeal else 0.0
    views = int(row.appeal * (400 * (1 - 2 ** (-days / 3)) + 0.5 * days))
    by_hand = (
        row.fields.get(name, usual)
        for name, usual in zip(METRICS, (views, views * 4 // 5, views // 3), strict=True)
    )
    views, unique, clicks = (int(value) for value in by_hand)
    return views + row.reads, unique + row.reads, clicks


def _named(stream: str, counts: tuple[int, ...]) -> Fields:
    names = COUNTERS[stream] + (METRICS if stream == "posts" else ())
    return dict(zip(names, counts, strict=True))


def _typed(name: str, value: Any, stream: str, native: bool) -> Any:
    if native:
        return _native(name, value, stream)
    if name in NUMBERS_ANYWAY or not isinstance(value, bool | int):
        return value
    return str(value).lower()


def _native(name: str, value: Any, stream: str) -> Any:
    if not isinstance(value, str):
        return value
    if name in NATIVE_BOOLEANS and value in ("true", "false"):
        return value == "true"
    if (name in NATIVE_NUMBERS or (name == "id" and stream != "nps")) and value.isdigit():
        return int(value)
    return value

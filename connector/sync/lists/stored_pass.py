"""A list's pass as it is stored between two runs: JSON with a version, by keys of its own."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from json import dumps, loads
from typing import Any

from connector.beamer.pagination import Cursor
from connector.sync.lists import blocks, passes
from connector.sync.lists.blocks import Part
from connector.sync.lists.counters import total
from connector.sync.lists.passes import ListPass

# What is stored under another version starts again; nothing is lost by that.
VERSION = 1
# The keys, and the fields that they hold: a field that is renamed keeps its key.
CURSOR = {
    "since": "since",
    "until": "until",
    "page": "page",
    "last_ids": "last_ids",
    "behind_short_page": "behind_short",
    "empty_pages": "empty_pages",
    "repeated": "repeated",
}
PART = {"low": "low", "failures": "failures", "failed_at": "failed_at", "step": "step"}
PASS = PART | {
    "counter": "counter",
    "expected": "expected",
    "missing_before": "missing_before",
    "counter_trusted": "counter_trusted",
    "first_reading": "first_reading",
    "known": "known",
    "newest_first": "newest_first",
    "by_date": "by_date",
    "stops_early": "thrifty",
    "hinted": "hinted",
    "counted": "counted",
    "new_rows": "new_rows",
    "rows": "rows_read",
    "pages": "pages",
    "new_since_restart": "new_since_restart",
    "quarantined": "quarantined",
    "invalid": "invalid",
    "newest": "newest",
    "unsettled": "unsettled",
    "reached": "reached",
    "started_at": "started_at",
    "since": "since",
    "until": "until",
    "restarts": "restarts",
    "doubtful": "doubtful",
    "shallow": "shallow",
    "resumed": "resumed",
    "last_ids_before": "last_ids_before",
    "front": "front",
    "front_read": "front_read",
    "hole": "hole",
}
DATES = {"low", "newest", "unsettled", "reached", "started_at", "since", "until", "failed_at"}
# No list has as many rows or pages.
HIGHEST = 2**40


def dump(pass_: ListPass) -> str:
    """Return the pass as text; what is as in every pass that begins is left out."""
    stored = {"version": VERSION, **_stored(pass_, PASS), "cursor": _stored(pass_.cursor, CURSOR)}
    if pass_.parts:
        stored["parts"] = [
            {**_stored(part, PART), "cursor": _stored(part.cursor, CURSOR)} for part in pass_.parts
        ]
    return dumps(stored, default=datetime.isoformat)


def _stored(state: ListPass | Cursor | Part, keys: Mapping[str, str]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(state)}
    values = {key: getattr(state, name) for key, name in keys.items()}
    return {key: value for key, value in values.items() if value != defaults[keys[key]]}


def restore(text: str) -> ListPass:
    """Return a pass as it was stored; raises ValueError where it cannot be read, or is of another version."""
    try:
        stored = loads(text)
        if stored.pop("version") != VERSION:
            raise ValueError("a pass of another version")
        cursor, parts = _cursor(stored.pop("cursor")), tuple(map(_part, stored.pop("parts", ())))
        return ListPass(cursor=cursor, parts=parts, **_read(ListPass, PASS, stored))
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("no pass of this version") from None


def restored(text: str) -> ListPass | None:
    """Return a pass as it was stored; None where that cannot be read."""
    try:
        return restore(text)
    except ValueError:
        return None


def _cursor(stored: dict[str, Any]) -> Cursor:
    return Cursor(**_read(Cursor, CURSOR, stored))


def _part(stored: dict[str, Any]) -> Part:
    cursor = _cursor(stored.pop("cursor"))
    return Part(**{**_read(Part, PART, stored), "cursor": cursor})


def _read(
    kind: type[ListPass | Cursor | Part], keys: Mapping[str, str], stored: dict[str, Any]
) -> dict[str, Any]:
    """Return the values of fields; raises ValueError, TypeError or KeyError for any that cannot be."""
    defaults = {field.name: field.default for field in fields(kind)}
    values = {keys[key]: value for key, value in stored.items()}
    return {
        name: _date(value) if name in DATES else _like(defaults[name], value)
        for name, value in values.items()
    }


def _like(default: object, value: Any) -> Any:
    """Return the value, if it is of its default's type; a number stands where there is none by default."""
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if isinstance(default, bool | str):
        if type(value) is not type(default):
            raise TypeError
        # The one text of a pass is a counter.
        return value if isinstance(value, bool) or total(value) >= 0 else default
    if type(value) not in ((int, float) if default is None else (int,)) or not 0 <= value < HIGHEST:
        raise TypeError
    return value


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        raise ValueError("a date without a time zone")
    return date


def left_of(pass_: ListPass, now: datetime) -> str | None:
    """Return what is kept of a pass that is done: the parts that failed."""
    return dump(passes.hole(pass_.parts, now)) if pass_.parts else None


def parts_of(cursor: str | None) -> tuple[Part, ...]:
    """Return the parts of a list of parents that failed, as they are kept."""
    return restore(cursor).unread if cursor else ()


def instead(cursor: str | None, part: Part, after: tuple[Part, ...], now: datetime) -> str | None:
    """Return what is kept of a list of parents when other parts take the place of one, or none."""
    others = [each for each in parts_of(cursor) if each.cursor != part.cursor]
    kept = blocks.joined((*others, *after))
    return dump(passes.hole(kept, now)) if kept else None

"""A list's pass as it is stored between two runs: JSON with a version, by keys of its own."""

from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from json import dumps, loads
from typing import Any

from connector.beamer.pagination import Cursor
from connector.sync.lists import blocks, passes
from connector.sync.lists.blocks import Part
from connector.sync.lists.counters import total
from connector.sync.lists.passes import ListPass, PassPlan, PassProgress

# What is stored under another version starts again; nothing is lost by that.
VERSION = 2


def _keys(text: str) -> dict[str, str]:
    """Return the fields by their keys: `key=field`, or one word where both have the same name."""
    pairs = (word.partition("=") for word in text.split())
    return {key: field or key for key, _, field in pairs}


# A field that is renamed keeps its key.
KEYS: dict[type, dict[str, str]] = {
    Cursor: _keys("since until page last_ids behind_short_page=behind_short empty_pages repeated"),
    Part: _keys("cursor low failures failed_at step"),
    PassPlan: _keys("kind counter counter_trusted expected missing_before counted read_behind"),
    PassProgress: _keys(
        "new_rows quarantined invalid rows=rows_read pages new_since_restart restarts started_at since until"
        " newest unsettled reached continued last_ids_before"
    ),
    ListPass: _keys("part plan progress parts paging depth"),
}
NESTED: dict[str, type] = {"cursor": Cursor, "part": Part, "plan": PassPlan, "progress": PassProgress}
DATES = {"low", "newest", "unsettled", "reached", "started_at", "since", "until", "failed_at"}
# No list has as many rows or pages.
HIGHEST = 2**40


def dump(pass_: ListPass) -> str:
    """Return the pass as text; what is as in every pass that begins is left out."""
    return dumps({"version": VERSION, **_stored(pass_)}, default=_stored)


def _stored(state: Any) -> Any:
    if isinstance(state, datetime):
        return state.isoformat()
    defaults = {field.name: field.default for field in fields(state)}
    values = {key: getattr(state, name) for key, name in KEYS[type(state)].items()}
    return {key: value for key, value in values.items() if value != defaults[KEYS[type(state)][key]]}


def restore(text: str) -> ListPass:
    """Return a pass as it was stored; raises ValueError where it cannot be read, or is of another version."""
    try:
        stored = loads(text)
        if stored.pop("version") != VERSION:
            raise ValueError("a pass of another version")
        pass_: ListPass = _read(ListPass, stored)
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("no pass of this version") from None
    return pass_


def restored(text: str) -> ListPass | None:
    """Return a pass as it was stored; None where that cannot be read."""
    try:
        return restore(text)
    except ValueError:
        return None


def _read(kind: type, stored: dict[str, Any]) -> Any:
    """Return what is stored; raises ValueError, TypeError or KeyError for a value that cannot be."""
    defaults = {field.name: field.default for field in fields(kind)}
    values = {KEYS[kind][key]: value for key, value in stored.items()}
    return kind(**{name: _value(name, defaults[name], value) for name, value in values.items()})


def _value(name: str, default: Any, value: Any) -> Any:
    if name in NESTED:
        return _read(NESTED[name], value)
    if name == "parts":
        return tuple(_read(Part, part) for part in value)
    if name in DATES:
        return _date(value)
    return type(default)(value) if isinstance(default, StrEnum) else _like(default, value)


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


def _date(text: str) -> datetime:
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
    others = [other for other in parts_of(cursor) if other.cursor != part.cursor]
    kept = blocks.joined((*others, *after))
    return dump(passes.hole(kept, now)) if kept else None

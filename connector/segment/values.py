"""Values on their way into a message: typed as the catalogue says, and always good JSON."""

import math
import re
from datetime import UTC, datetime
from typing import Any

from connector.segment.properties import Type

LONGEST_URL = 2_048
DEEPEST = 6
LARGEST = 2**63 - 1  # what a warehouse column holds

_SCRUB = re.compile("[\x00\ud800-\udfff]")
_AUTHORITY = re.compile(r"^([a-z][a-z0-9+.\-]*:)?//", re.IGNORECASE)


def plain(text: str) -> str:
    """Text without what breaks destinations: NUL goes, half a surrogate pair becomes U+FFFD."""
    return (
        text
        if text.isascii() and "\x00" not in text
        else _SCRUB.sub(lambda hit: "" if hit[0] == "\x00" else "\ufffd", text)
    )


def typed(value: Any, wanted: Type) -> Any:
    """The value as its column's type, or None where it is unknown, blank or of no use as that type."""
    if value is None:
        return None
    if wanted == "integer":
        return _integer(value)
    if wanted == "boolean":
        return value if isinstance(value, bool) else None
    if wanted == "array":
        return _strings(value)
    if wanted == "date-time":
        return value.astimezone(UTC).isoformat(timespec="seconds") if isinstance(value, datetime) else None
    text = _string(value)
    # Half an address is worse than none.
    return None if wanted == "url" and text and len(text) > LONGEST_URL else text


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    whole = isinstance(value, str) or number == value
    return number if whole and abs(number) <= LARGEST else None


def _string(value: Any) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    text = plain(value)
    return text if text.strip() else None


def _strings(value: Any) -> list[str] | None:
    items = value if isinstance(value, list | tuple) else [value]
    return [text for item in items if (text := _string(item)) is not None] or None


def tame(value: Any, depth: int = 0) -> Any:
    """A custom attribute as plain JSON: no NaN, no giant number, nothing nested deeper than `DEEPEST`."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else None
    if depth < DEEPEST and isinstance(value, dict):
        return {plain(str(key)): tame(item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple):
        return [tame(item, depth + 1) for item in value]
    return None


def bare(url: str) -> str:
    """An address without query, fragment and userinfo: all three can hold tokens and names."""
    url = re.split(r"[?#]", url.strip(), maxsplit=1)[0]
    start = match.end() if (match := _AUTHORITY.match(url)) else 0
    authority, slash, path = url[start:].partition("/")
    return url[:start] + authority.rpartition("@")[2] + slash + path

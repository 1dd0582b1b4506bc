"""Single values read leniently: native or in a string, and never an exception but Unreadable."""

import math
import re
from datetime import UTC, datetime
from typing import Any

# An id becomes a part of a path, so it must not be able to lead out of its place there.
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
# No store takes these in a text: NUL, and half a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MOST_DIGITS = 18
# Within these years a date stays a date when it is moved by seconds or written with four digits.
YEARS = range(1000, 9999)


class Unreadable(ValueError):
    """A value that is not what its field holds."""


def text(value: Any) -> str | None:
    """A string that any store takes; numbers are taken as their digits."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value) if _short(value) and value.is_integer() else value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value)
    raise Unreadable("not text")


def storable(value: str) -> str:
    if value.isascii() and "\x00" not in value:
        return value
    return UNSTORABLE.sub(lambda hit: "" if hit[0] == "\x00" else "\ufffd", value)


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes out no more than some thousand digits.
        raise Unreadable("a number without end") from None


def integer(value: Any) -> int | None:
    """A whole number of at most 18 digits, native or in a string; a blank string is none."""
    if isinstance(value, str):
        stripped = value.strip()
        if not stripped:
            return None
        if re.fullmatch(r"[+-]?\d{1,18}(\.0+)?", stripped, re.ASCII):
            return int(stripped.split(".")[0])
    elif _short(value) and value == int(value):
        return int(value)
    raise Unreadable("not a number")


def _short(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 10**MOST_DIGITS


def flag(value: Any) -> bool | None:
    """True or false, native or in a string."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and not value.strip():
        return None
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("true", "1", 1):
        return True
    if word in ("false", "0", 0):
        return False
    raise Unreadable("not true or false")


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if isinstance(value, dict):
        return value
    raise Unreadable("not an object")


def moment(value: Any) -> datetime:
    """An ISO-8601 date as aware UTC; one without a zone is taken as UTC (the examples end in Z)."""
    if not isinstance(value, str):
        raise Unreadable("not a date")
    try:
        parsed = datetime.fromisoformat(value.strip())
        moved = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable("not a date") from None
    if moved.year not in YEARS:
        raise Unreadable("a date out of all bounds")
    return moved


def row_id(value: Any) -> str:
    """An id: digits or hex in a string, or a native integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = _digits(value)
    if isinstance(value, str) and ID.fullmatch(value.strip()):
        return value.strip()
    raise Unreadable("not an id")

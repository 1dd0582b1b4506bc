"""Rows as Beamer lists them, parsed into plain values."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# An id becomes a part of a path, so it must not be able to lead out of its place there.
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
# No store takes these in a text: NUL, and half a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MOST_DIGITS = 18
# As JSON libraries of some languages write whole numbers.
WHOLE = re.compile(r"[+-]?\d{1,18}(\.0+)?", re.ASCII)
# Above it, a floating-point number is no longer one whole number alone.
EXACT = 2**53
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
        raise Unreadable("an infinite number") from None


def integer(value: Any) -> int | None:
    """A whole number of at most 18 digits, native or in a string; a blank string is none."""
    if isinstance(value, str):
        stripped = value.strip()
        if not stripped:
            return None
        if WHOLE.fullmatch(stripped):
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
        # Its T and Z may be small letters.
        parsed = datetime.fromisoformat(value.strip().upper())
        moved = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable("not a date") from None
    if moved.year not in YEARS:
        raise Unreadable("a date out of range")
    return moved


def row_id(value: Any) -> str:
    """An id: digits or hex in a string, or a whole number; 123.0 is 123, native or in a string."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = _digits(value)
    if isinstance(value, str):
        stripped = value.strip()
        if WHOLE.fullmatch(stripped) and "." in stripped:
            stripped = stripped.partition(".")[0]
        if ID.fullmatch(stripped):
            return stripped
    raise Unreadable("not an id")


__all__ = ["Field", "InvalidRow", "Row", "Unreadable", "flag", "integer", "mapping", "parse", "text"]

# How deeply a row may be nested: far deeper than any was seen, far from where writing it down fails.
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the rest of the connector knows it: an id, a date, and named values."""

    id: str
    date: datetime
    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used, with a reason that quotes nothing of its content."""

    reason: str
    id: str | None = None
    raw: Any = field(default=None, repr=False)


Parser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value stands in a raw row (the first name that is not blank), and how it is read.

    An `optional` value that cannot be read becomes None; any other makes the row invalid.
    """

    parse: Parser
    names: tuple[str, ...]
    optional: bool = False

    def read(self, raw: Mapping[str, Any]) -> Any:
        if len(self.names) == 1:
            value = raw.get(self.names[0])
            return None if value is None else self._value(self.names[0], value)
        there = [name for name in self.names if raw.get(name) is not None]
        if not there:
            return None
        name = next((name for name in there if raw[name] != ""), there[0])
        return self._value(name, raw[name])

    def _value(self, name: str, value: Any) -> Any:
        try:
            return self.parse(value)
        except Unreadable as error:
            if self.optional:
                return None
            raise Unreadable(f"{name} is {error}") from None


DATE = Field(moment, ("date",))


def parse(raw: Any, fields: Mapping[str, Field]) -> Row | InvalidRow:
    """Read one raw row; whatever it is, the result is a row or the reason why it is none."""
    kept = raw if shallow(raw) else None
    if not isinstance(raw, dict):
        return InvalidRow("the row is not an object", None, kept)
    try:
        found = row_id(raw.get("id"))
    except Unreadable:
        return InvalidRow("the row has no valid id", None, kept)
    if kept is None:
        return InvalidRow("the row is nested too deeply", found)
    try:
        date = DATE.read(raw)
        if date is None:
            raise Unreadable("date is missing")
        read = {name: each.read(raw) for name, each in fields.items()}
        return Row(found, date.replace(microsecond=0), read)
    except Unreadable as error:
        return InvalidRow(str(error), found, raw)


def date_of(raw: Any) -> datetime | None:
    """The date of a row that may be invalid otherwise."""
    try:
        date: datetime | None = DATE.read(raw) if isinstance(raw, dict) else None
    except Unreadable:
        return None
    return date.replace(microsecond=0) if date else None


def shallow(raw: Any) -> bool:
    """Whether everything in a row lies less than `DEEPEST` levels down."""
    level = [raw]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each) if isinstance(inner, dict | list)]
        if not level:
            return True
    return False


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()

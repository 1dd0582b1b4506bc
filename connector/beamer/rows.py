"""Rows as Beamer lists them, parsed into plain values."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# An id becomes a part of a path, so it must not contain characters that change the path.
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
# No database stores these in a text: NUL, and half a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MOST_DIGITS = 18
# Whole numbers, also as JSON libraries of some languages write them.
WHOLE = re.compile(r"[+-]?\d{1,18}(\.0+)?", re.ASCII)
# Above it, one floating-point number stands for several whole numbers.
EXACT = 2**53
# Within these years, a date stays valid when seconds are added, and has a year of four digits.
YEARS = range(1000, 9999)


class Unreadable(ValueError):
    """Raised for a value that does not fit its field."""


def text(value: Any) -> str | None:
    """Parse a text that any database stores; a number becomes its digits."""
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
    """Parse a whole number of at most 18 digits, native or in a string; a blank string is None."""
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
    """Parse true or false, native or in a string."""
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
    """Return a JSON object as it is."""
    if isinstance(value, dict):
        return value
    raise Unreadable("not an object")


def moment(value: Any) -> datetime:
    """Parse an ISO 8601 date into aware UTC; without a zone it is UTC (the examples end in Z)."""
    if not isinstance(value, str):
        raise Unreadable("not a date")
    try:
        # T and Z may be small letters.
        parsed = datetime.fromisoformat(value.strip().upper())
        moved = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable("not a date") from None
    if moved.year not in YEARS:
        raise Unreadable("a date out of range")
    return moved


def row_id(value: Any) -> str:
    """Parse an id: letters and digits in a string, or a whole number; 123.0 is 123."""
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


# How deeply a row may be nested: much deeper than any seen row, and still safe to write as JSON.
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One parsed row: an id, a date, and named values."""

    id: str
    date: datetime
    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used; the reason quotes none of its content."""

    reason: str
    id: str | None = None
    raw: Any = field(default=None, repr=False)


Parser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A value's names in a raw row (the first one that is not blank counts), and its parser.

    An `optional` value that cannot be parsed becomes None; any other makes the row invalid.
    """

    parse: Parser
    names: tuple[str, ...]
    optional: bool = False

    def read(self, raw: Mapping[str, Any]) -> Any:
        if len(self.names) == 1:
            value = raw.get(self.names[0])
            return None if value is None else self._value(self.names[0], value)
        present = [name for name in self.names if raw.get(name) is not None]
        if not present:
            return None
        name = next((name for name in present if raw[name] != ""), present[0])
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
    """Parse one raw row; return a row, or the reason why it cannot be used."""
    body = raw if _shallow(raw) else None
    if not isinstance(raw, dict):
        return InvalidRow("the row is not an object", None, body)
    try:
        ident = row_id(raw.get("id"))
    except Unreadable:
        return InvalidRow("the row has no valid id", None, body)
    if body is None:
        return InvalidRow("the row is nested too deeply", ident)
    try:
        date = DATE.read(raw)
        if date is None:
            raise Unreadable("date is missing")
        values = {name: field.read(raw) for name, field in fields.items()}
        return Row(ident, date.replace(microsecond=0), values)
    except Unreadable as error:
        return InvalidRow(str(error), ident, raw)


def date_of(raw: Any) -> datetime | None:
    """Return the date of a row that may otherwise be invalid."""
    try:
        date: datetime | None = DATE.read(raw) if isinstance(raw, dict) else None
    except Unreadable:
        return None
    return date.replace(microsecond=0) if date else None


def _shallow(raw: Any) -> bool:
    """Return whether a row is nested in fewer than `DEEPEST` levels."""
    level = [raw] if isinstance(raw, dict | list) else []
    for _ in range(DEEPEST):
        parts = (part for value in level for part in (value.values() if isinstance(value, dict) else value))
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return True
    return False

"""Rows parsed leniently: types vary between the reference's schema and its examples.

The reference calls ids and counters integers and flags booleans, its examples show all of them as
strings; both are accepted everywhere (observed-facts.md, "Beamer API").
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ID = re.compile(r"[\x21-\x7e]{1,64}")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the rest of the connector knows it: an id, a date, and named values."""

    id: str
    date: datetime
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that cannot be used, with a reason that quotes nothing of its content."""

    reason: str
    id: str | None = None
    raw: Any = field(default=None, repr=False)


class Unreadable(ValueError):
    """A value that is not what its field holds."""


Parser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value stands in a raw row (the first name that is there), and how it is read.

    An `optional` value that cannot be read becomes None; any other makes the row unusable.
    """

    parse: Parser
    names: tuple[str, ...]
    optional: bool = False

    def read(self, raw: Mapping[str, Any]) -> Any:
        for name in self.names:
            if raw.get(name) is not None:
                return self._value(name, raw[name])
        return None

    def _value(self, name: str, value: Any) -> Any:
        try:
            return self.parse(value)
        except Unreadable as error:
            if self.optional:
                return None
            raise Unreadable(f"{name} is {error}") from None


def text(value: Any) -> str | None:
    """A string; numbers are taken as their digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unreadable("not text")


def integer(value: Any) -> int | None:
    """A whole number, native or in a string; a blank string is none."""
    if isinstance(value, bool):
        raise Unreadable("not a number")
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        stripped = value.strip()
        if not stripped:
            return None
        if re.fullmatch(r"[+-]?\d{1,18}(\.0+)?", stripped, re.ASCII):
            return int(stripped.split(".")[0])
    raise Unreadable("not a number")


def flag(value: Any) -> bool | None:
    """True or false, native or in a string."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower())
    if value in (0, 1):
        return bool(value)
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
        zoned = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return zoned.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable("not a date") from None


DATE = Field(moment, ("date",))


def row_id(value: Any) -> str:
    """An id: digits or hex in a string, or a native integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and ID.fullmatch(value.strip()):
        return value.strip()
    raise Unreadable("not an id")


def parse(raw: Any, fields: Mapping[str, Field]) -> Row | Unusable:
    """Read one raw row; whatever it is, the result is a row or the reason why it is none."""
    if not isinstance(raw, dict):
        return Unusable("the row is not an object", None, raw)
    try:
        found = row_id(raw.get("id"))
    except Unreadable:
        return Unusable("the row has no usable id", None, raw)
    try:
        date = DATE.read(raw)
        if date is None:
            raise Unreadable("date is missing")
        return Row(
            found, date.replace(microsecond=0), {name: each.read(raw) for name, each in fields.items()}
        )
    except Unreadable as error:
        return Unusable(str(error), found, raw)

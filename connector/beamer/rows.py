"""Rows parsed leniently: types vary between the reference's schema and its examples.

The reference calls ids and counters integers and flags booleans, its examples show all of them as
strings; both are accepted everywhere (observed-facts.md, "Beamer API").
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connector.beamer.values import Unreadable, flag, integer, mapping, moment, row_id, text

__all__ = ["Field", "Row", "Unreadable", "Unusable", "flag", "integer", "mapping", "parse", "text"]

# How deeply a row may be nested: far deeper than any was seen, far from where writing it down fails.
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the rest of the connector knows it: an id, a date, and named values."""

    id: str
    date: datetime
    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that cannot be used, with a reason that quotes nothing of its content."""

    reason: str
    id: str | None = None
    raw: Any = field(default=None, repr=False)


Parser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value stands in a raw row (the first name that is not blank), and how it is read.

    An `optional` value that cannot be read becomes None; any other makes the row unusable.
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


def parse(raw: Any, fields: Mapping[str, Field]) -> Row | Unusable:
    """Read one raw row; whatever it is, the result is a row or the reason why it is none."""
    kept = raw if shallow(raw) else None
    if not isinstance(raw, dict):
        return Unusable("the row is not an object", None, kept)
    try:
        found = row_id(raw.get("id"))
    except Unreadable:
        return Unusable("the row has no usable id", None, kept)
    if kept is None:
        return Unusable("the row is nested too deeply", found)
    try:
        date = DATE.read(raw)
        if date is None:
            raise Unreadable("date is missing")
        read = {name: each.read(raw) for name, each in fields.items()}
        return Row(found, date.replace(microsecond=0), read)
    except Unreadable as error:
        return Unusable(str(error), found, raw)


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

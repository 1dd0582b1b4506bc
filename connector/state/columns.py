"""The types of columns. Each checks what it reads: a value that cannot be read is noted, without an error.

A disk or a person may damage a file, and SQLite takes any value in any column. `instead` of a column is
the value used in its place; `damage` decides what becomes of its row.
"""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    Integer,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Arithmetic on later dates overflows.
LAST_YEAR = 9999
# Larger than any count here, and in microseconds the last date that Python can represent.
MOST = 253_402_300_799_000_000
LABEL = re.compile(r"[A-Za-z0-9_.]{1,40}")
# What a reader raises for a value that it cannot read.
REFUSALS = (ValueError, TypeError, ArithmeticError, RecursionError)

Reader = Callable[[Any], Any]


class _Fate:
    """What becomes of a row."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


# The row is deleted: it is read from Beamer again.
DROP: Final = _Fate("DROP")
# No value can replace it: a command that needs it stops.
NEEDED: Final = _Fate("NEEDED")


class Needed(Exception):
    """Raised when a needed value cannot be read; `column` is the name of its table and its own name."""

    def __init__(self, column: tuple[str, str]) -> None:
        super().__init__(f"{column[0]}.{column[1]}")
        self.column = column


class _Notes(threading.local):
    def __init__(self) -> None:
        self.columns: set[tuple[str, str]] = set()


_notes = _Notes()


def taken_notes() -> set[tuple[str, str]]:
    """Return the columns in which this thread has read unreadable values since the last call."""
    columns, _notes.columns = _notes.columns, set()
    return columns


def fits(read: Reader, value: Any) -> bool:
    """Return whether a reader can read a value."""
    try:
        read(value)
    except REFUSALS:
        return False
    return True


class Checked(TypeDecorator[Any]):
    """A column's type; `instead` replaces a value that cannot be read: a value, DROP or NEEDED."""

    impl: Any = Text
    cache_ok = True
    # For a row that is deleted: its reader still needs a value to continue.
    neutral: Any = ""
    # Set by the table.
    column: tuple[str, str] = ("", "")

    def __init__(self, *args: Any, instead: Any = None) -> None:
        super().__init__(*args)
        self.instead = instead

    def fits(self, value: Any) -> bool:
        """Return whether this column may hold a value, as the driver returns it."""
        return isinstance(value, str)

    def loaded(self, value: Any) -> Any:
        """Return what a value that fits means."""
        return value

    def unreadable(self) -> Any:
        """Note a value that does not fit; return its replacement."""
        if self.instead is NEEDED:
            raise Needed(self.column)
        _notes.columns.add(self.column)
        return self.stand_in

    @property
    def stand_in(self) -> Any:
        return self.neutral if self.instead in (DROP, NEEDED) else self.instead

    def reader(self, dialect: Dialect, coltype: object) -> Reader:
        """Return a function that reads a value from the driver, and raises one of REFUSALS if it cannot."""
        parse = self.impl_instance.result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            value = parse(value) if parse else value
            if not self.fits(value):
                raise ValueError
            return self.loaded(value)

        return read

    def result_processor(self, dialect: Dialect, coltype: object) -> Reader:
        read = self.reader(dialect, coltype)

        def checked(value: Any) -> Any:
            if value is None:
                return None
            try:
                return read(value)
            except REFUSALS:
                return self.unreadable()

        return checked


class Message(Checked):
    """A text whose content is checked elsewhere."""

    cache_ok = True


class Moment(Checked):
    """Take and return aware UTC; a year from `before` on counts as unreadable.

    Stored without a zone: PostgreSQL would return every date in the server's, and none past year 9999.
    """

    impl = DateTime
    cache_ok = True
    neutral = EPOCH

    def __init__(self, *args: Any, instead: Any = None, before: int = LAST_YEAR) -> None:
        super().__init__(*args, instead=instead)
        self.before = before

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def reader(self, dialect: Dialect, coltype: object) -> Reader:
        # Without `fits` and `loaded`: a run reads thousands of them.
        parse, before = self.impl_instance.result_processor(dialect, coltype), self.before

        def read(value: Any) -> Any:
            moment: Any = parse(value) if parse else value
            if not isinstance(moment, datetime) or moment.year >= before:
                raise ValueError
            return moment.replace(tzinfo=UTC)

        return read


class Words(Checked):
    """Text from outside, escaped: PostgreSQL takes no NUL, and neither database a lone surrogate."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.dumps(value)[1:-1]

    def loaded(self, value: Any) -> Any:
        text = json.loads(f'"{value}"')
        if not isinstance(text, str):
            raise TypeError
        return text


class Whole(Checked):
    """A whole number, from `least` on."""

    impl = Integer
    cache_ok = True
    neutral = 0

    def __init__(self, *args: Any, instead: Any = None, least: int = 0, most: int = MOST) -> None:
        super().__init__(*args, instead=instead)
        self.least, self.most = least, most

    def result_processor(self, dialect: Dialect, coltype: object) -> Reader:  # noqa: ARG002
        least, most = self.least, self.most

        def checked(value: Any) -> Any:
            if value.__class__ is int and least <= value <= most:
                return value
            # A sum in PostgreSQL.
            if value is None or (isinstance(value, Decimal) and value.is_finite() and value >= least):
                return value
            return self.unreadable()

        return checked

    def fits(self, value: Any) -> bool:
        return value.__class__ is int and bool(self.least <= value <= self.most)


class Large(Whole):
    """A whole number that may be large."""

    impl = BigInteger
    cache_ok = True


class Small(Whole):
    """A whole number that is small."""

    impl = SmallInteger
    cache_ok = True


class Real(Checked):
    """A finite number, from `least` on."""

    impl = Float
    cache_ok = True
    neutral = 0.0

    def __init__(self, *args: Any, instead: Any = None, least: float = 0.0) -> None:
        super().__init__(*args, instead=instead)
        self.least = least

    def reader(self, dialect: Dialect, coltype: object) -> Reader:  # noqa: ARG002
        # Both drivers return a number as it is; PostgreSQL's processor also requires a type code.
        def read(value: Any) -> Any:
            if value.__class__ not in (int, float) or not self.least <= value < MOST:
                raise ValueError
            return value

        return read


class Flag(Checked):
    """True or false."""

    impl = Boolean
    cache_ok = True
    neutral = False

    def reader(self, dialect: Dialect, coltype: object) -> Reader:  # noqa: ARG002
        def read(value: Any) -> Any:
            # SQLite has none: there it is a number.
            if value is True or value is False:
                return value
            if value.__class__ is not int or value not in (0, 1):
                raise ValueError
            return bool(value)

        return read


class Name(Checked):
    """A short text of the connector; one of `words` if there are any."""

    impl = String
    cache_ok = True
    pattern: ClassVar[re.Pattern[str]] = re.compile(r"(?s).*")

    def __init__(self, *args: Any, instead: Any = None, words: tuple[str, ...] = ()) -> None:
        super().__init__(*args, instead=instead)
        self.words = words

    def fits(self, value: Any) -> bool:
        if not isinstance(value, str) or (self.words and value not in self.words):
            return False
        return self.pattern.fullmatch(value) is not None


class Label(Name):
    """A name as settings may give it: part of every messageId, or a stream's."""

    cache_ok = True
    pattern = LABEL


class Id(Name):
    """An id as Beamer gives it, or 0 for none."""

    cache_ok = True
    pattern = re.compile(r"[0-9A-Za-z_-]{1,64}")


class Digest(Name):
    """A key or a digest, in hexadecimal."""

    cache_ok = True
    pattern = re.compile(r"([0-9a-f]{2})+")


class Counters(Name):
    """Counters, joined by commas (see sync/lists/counters.py)."""

    impl = Text
    cache_ok = True
    pattern = re.compile(r"(\?|\d{1,18})(,(\?|\d{1,18}))*")


class Json(Checked):
    """JSON text of an object; its readers check its content."""

    cache_ok = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and isinstance(json.loads(value), dict)

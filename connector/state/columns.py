"""The types of columns. Each looks at what it reads: a value that cannot be read is noted, and never raised.

A file may be damaged by a disk or by a hand: SQLite takes any value in any column. What stands for such a
value says the column (`instead`); what becomes of the row is for `damage` to say.
"""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

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
# Arithmetic on later dates overflows; Beamer's end before.
LAST_YEAR = 9999
# More than anything here counts, and in microseconds the last date that can be told.
MOST = 253_402_300_799_000_000
COUNTERS = re.compile(r"(\?|\d{1,18})(,(\?|\d{1,18}))*")
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
LABEL = re.compile(r"[A-Za-z0-9_.]{1,40}")
HEXADECIMAL = re.compile(r"([0-9a-f]{2})+")


class _Word:
    """A word for what becomes of a row."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __repr__(self) -> str:
        return self.word


# The whole row goes: what it said is found out again.
DROP: Final = _Word("DROP")
# Nothing can stand for it: whoever needs it stops.
NEEDED: Final = _Word("NEEDED")


class Needed(Exception):
    """A value that nothing can stand for cannot be read; `column` is its table's and its name."""

    def __init__(self, column: tuple[str, str]) -> None:
        super().__init__(f"{column[0]}.{column[1]}")
        self.column = column


class _Notes(threading.local):
    def __init__(self) -> None:
        self.columns: set[tuple[str, str]] = set()


_notes = _Notes()


def taken_notes() -> set[tuple[str, str]]:
    """The columns in which this thread has read what cannot be read, since this was last asked."""
    found, _notes.columns = _notes.columns, set()
    return found


class Checked(TypeDecorator[Any]):
    """A column's type; `instead` stands for a value that cannot be read: that, or DROP, or NEEDED."""

    impl: Any = Text
    cache_ok = True
    # Where the row goes, but what has read it has yet to go on.
    neutral: Any = ""
    # Set by the table.
    column: tuple[str, str] = ("", "")

    def __init__(self, *args: Any, instead: Any = None) -> None:
        super().__init__(*args)
        self.instead = instead

    def fits(self, value: Any) -> bool:
        """Whether a value, as its driver gives it, is one that this column may hold."""
        raise NotImplementedError

    def loaded(self, value: Any) -> Any:
        """What is made of a value that fits."""
        return value

    def unreadable(self) -> Any:
        """What stands for a value that does not fit; it is noted."""
        if self.instead is NEEDED:
            raise Needed(self.column)
        _notes.columns.add(self.column)
        return self.stand_in

    @property
    def stand_in(self) -> Any:
        return self.neutral if self.instead in (DROP, NEEDED) else self.instead

    def reader(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """What makes a value of what the driver gives; it raises where it cannot."""
        parse = self.impl_instance.result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            value = parse(value) if parse else value
            if not self.fits(value):
                raise ValueError
            return self.loaded(value)

        return read

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        read = self.reader(dialect, coltype)

        def checked(value: Any) -> Any:
            if value is None:
                return None
            try:
                return read(value)
            except (ValueError, TypeError, ArithmeticError, RecursionError):
                return self.unreadable()

        return checked


class Moment(Checked):
    """Aware UTC in, aware UTC out; from a year on (`before`) it is none that can be meant.

    Kept without a zone: PostgreSQL would hand back every date in the server's, and none past year 9999.
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

    def fits(self, value: Any) -> bool:
        return isinstance(value, datetime) and value.year < self.before

    def loaded(self, value: Any) -> Any:
        return value.replace(tzinfo=UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        # Composed by hand: a run reads thousands of them, most of them empty.
        parse, before = self.impl_instance.result_processor(dialect, coltype), self.before

        def checked(value: Any) -> Any:
            if value is None:
                return None
            try:
                found: Any = parse(value) if parse else value
                if found.year < before:
                    return found.replace(tzinfo=UTC)
            except (ValueError, TypeError, AttributeError):
                pass
            return self.unreadable()

        return checked


class Words(Checked):
    """Somebody else's text, escaped: PostgreSQL takes no NUL, and neither database a lone surrogate."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.dumps(value)[1:-1]

    def fits(self, value: Any) -> bool:
        return isinstance(value, str)

    def loaded(self, value: Any) -> Any:
        found = json.loads(f'"{value}"')
        if not isinstance(found, str):
            raise TypeError
        return found


class Whole(Checked):
    """A whole number, from `least` on."""

    impl = Integer
    cache_ok = True
    neutral = 0

    def __init__(self, *args: Any, instead: Any = None, least: int = 0, most: int = MOST) -> None:
        super().__init__(*args, instead=instead)
        self.least, self.most = least, most

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
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

    def fits(self, value: Any) -> bool:
        return value.__class__ in (int, float) and bool(self.least <= value < MOST)

    def reader(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        # Both drivers give a number as it is; the processor of PostgreSQL wants a type code besides.
        def read(value: Any) -> Any:
            if not self.fits(value):
                raise ValueError
            return value

        return read


class Flag(Checked):
    """True or false."""

    impl = Boolean
    cache_ok = True
    neutral = False

    def fits(self, value: Any) -> bool:
        return value is True or value is False

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        def checked(value: Any) -> Any:
            # SQLite has none: there it is a number.
            if value is None or value is True or value is False:
                return value
            return bool(value) if value.__class__ is int and value in (0, 1) else self.unreadable()

        return checked

    def reader(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        def read(value: Any) -> Any:
            if value not in (0, 1) or isinstance(value, float):
                raise ValueError
            return bool(value)

        return read


class Name(Checked):
    """A short text of ours; one of given `words` where there are any."""

    impl = String
    cache_ok = True

    def __init__(self, *args: Any, instead: Any = None, words: tuple[str, ...] = ()) -> None:
        super().__init__(*args, instead=instead)
        self.words = words

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and (not self.words or value in self.words)


class Label(Name):
    """A name as settings may give it: part of every messageId, or a stream's."""

    impl = String
    cache_ok = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and LABEL.fullmatch(value) is not None


class Id(Name):
    """An id as Beamer gives it, or 0 for none."""

    impl = String
    cache_ok = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and ID.fullmatch(value) is not None


class Digest(Name):
    """A key or a digest, in hexadecimal."""

    impl = String
    cache_ok = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and HEXADECIMAL.fullmatch(value) is not None


class Counters(Checked):
    """Counters, joined by commas (see sync/lists/counters.py)."""

    impl = Text
    cache_ok = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and COUNTERS.fullmatch(value) is not None


class Json(Checked):
    """JSON text of an object or a list; what is in it is for those to judge who know it."""

    impl = Text
    cache_ok = True

    def __init__(self, *args: Any, instead: Any = None, of: type = dict) -> None:
        super().__init__(*args, instead=instead)
        self.of = of

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and isinstance(json.loads(value), self.of)


class Message(Checked):
    """A text whose content is for others to judge."""

    impl = Text
    cache_ok = True

    def fits(self, value: Any) -> bool:
        return isinstance(value, str)

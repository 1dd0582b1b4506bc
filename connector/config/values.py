"""What a setting's text may say.

Each function takes what the environment (text) or a TOML file (text, number, date, list) gave and
returns the value, or raises ValueError with what is wrong; the setting's name is put before it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, urlsplit

from connector.config.addresses import is_loopback
from connector.domain.plans import PLANS, Plan

STREAMS = (
    "posts",
    "comments",
    "reactions",
    "nps",
    "feature_requests",
    "feature_request_comments",
    "feature_request_votes",
)

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+|\d+(?:\.\d+)?")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LONGEST = timedelta(days=3_660)
# No account of Beamer's is as old.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
# What zones and clocks may differ by.
_AHEAD = timedelta(days=1)
_NAME = re.compile(r"[A-Za-z0-9_.]{1,40}")
_SHOWABLE = 24
_LONGEST_JSON = 4_000


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most similar."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def quoted(value: object) -> str:
    """Return a value for an error, but only its length if it may be a key in the wrong place."""
    text = str(value)
    return repr(text) if len(text) <= _SHOWABLE else f"a value of {len(text)} characters"


def unknown(word: str, known: Iterable[str], kind: str) -> str:
    known = list(known)
    meant = nearest(word, known)
    return f"{quoted(word)} is not a {kind}" + (f"; did you mean '{meant}'?" if meant else "")


def lowered(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def uppered(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def number(value: Any) -> Any:
    """Keep TOML's `true` from counting as 1; pydantic does the rest."""
    if isinstance(value, bool):
        raise ValueError("this is true or false, not a number")
    return value.replace(",", "").replace("_", "") if isinstance(value, str) else value


def number_or_none(value: Any) -> Any:
    return number(lowered(value))


def name(value: Any) -> str:
    """A hyphen is refused because messageIds are joined with hyphens."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not a valid name")
    return value


def plan(value: Any) -> Plan:
    if isinstance(value, Plan):
        return value
    word = str(value).strip().lower()
    if word not in PLANS:
        raise ValueError(unknown(word, PLANS, "plan"))
    return PLANS[word]


def words(value: Any) -> tuple[str, ...]:
    """`a, b` or a list."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise ValueError("this is not a list of words")
    return tuple(dict.fromkeys(word.strip() for word in value if word.strip()))


def streams(value: Any) -> tuple[str, ...]:
    wanted = words(value)
    strange = [word for word in wanted if word not in STREAMS]
    if strange:
        raise ValueError("; ".join(unknown(word, STREAMS, "stream") for word in strange))
    if not wanted:
        raise ValueError("this names no stream, so nothing would be read")
    return tuple(stream for stream in STREAMS if stream in wanted)


def duration(value: Any) -> Any:
    """`15m`, `1h30m`, plain seconds; ISO 8601 is left to pydantic."""
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if text[:1] in "Pp" and text:
        return text.upper()
    if isinstance(value, bool) or not _DURATION.fullmatch(text.lower()):
        raise ValueError(f"{quoted(value)} is not a duration")
    parts = _DURATION_PART.findall(text.lower())
    seconds = sum(float(figure) * _UNITS[unit] for figure, unit in parts)
    return timedelta(seconds=min(seconds, _LONGEST.total_seconds() + 1))


def sensible_duration(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= _LONGEST:
        raise ValueError("this is outside 0 to 10 years")
    return value


def an_hour_or_more(value: timedelta) -> timedelta:
    if value < timedelta(hours=1):
        raise ValueError("this is less than an hour")
    return value


def a_minute_or_more(value: timedelta) -> timedelta:
    if value < timedelta(minutes=1):
        raise ValueError("this is less than a minute")
    return value


def address(value: Any) -> str:
    """`host:port`, an IPv6 host in brackets, or `none`."""
    text = str(value).strip().lower()
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if text != "none" and not (
        colon and bare and (":" not in bare or bare != host) and port.isdecimal() and int(port) < 65_536
    ):
        raise ValueError(f"{quoted(value)} is not an address")
    return text


def moment(value: Any) -> datetime:
    """A date or a date with a time, as aware UTC; without a zone it is taken as UTC."""
    try:
        when = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        if isinstance(when, date) and not isinstance(when, datetime):
            when = datetime.combine(when, time())
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, AttributeError, TypeError):
        pass
    raise ValueError(f"{quoted(value)} is not a date")


def believable(when: datetime, now: datetime) -> datetime:
    """Check that a date is plausible as a start date."""
    if when < EARLIEST:
        raise ValueError(f"{when.date()} is before {EARLIEST.date()}")
    if in_future(when, now):
        raise ValueError(f"{when.date()} is in the future")
    return when


def in_future(when: datetime, now: datetime) -> bool:
    """Return whether a date is further ahead than two correct clocks can differ."""
    return when > now + _AHEAD


def url(value: Any) -> str:
    """A base URL without user, query or final slash; plain http only to this machine."""
    text = str(value).strip().rstrip("/")
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("this is not a web address")
    _decent(parts)
    return text


def secret_url(value: Any) -> Any:
    """A URL that was fetched from somewhere; None where that went wrong, which was said already."""
    return None if value is None else url(value)


def host(value: Any) -> str:
    """A host as it was given, with or without scheme, path and final slash."""
    text = str(value).strip().rstrip("/")
    parts = _split(text if "://" in text else f"https://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("this is not a host")
    _decent(parts)
    return text


def _split(text: str) -> SplitResult:
    try:
        if not text.isascii() or not text.isprintable() or "\\" in text or " " in text:
            raise ValueError
        parts = urlsplit(text)
        _ = parts.port
        return parts
    except ValueError:
        pass
    raise ValueError("this is not a web address")


def _decent(parts: SplitResult) -> None:
    if "@" in parts.netloc:
        raise ValueError("this contains a user name or a password, which must not be in it")
    if parts.query or parts.fragment:
        raise ValueError("this contains a query or a fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("this is plain http, which would send the key unencrypted; use https")


def key(value: Any) -> Any:
    """A key goes into a header: nothing but printable ASCII, and not the quotes around it."""
    if not isinstance(value, str):
        return value
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(
            "this contains a space, a line break or a character that no key has; copy only the key"
        )
    if value[:1] in "'\"":
        raise ValueError("the quotes became part of the key; remove them")
    return value


def json_object(value: Any) -> dict[str, Any]:
    """Parse a JSON object, with a limit on its size because it is part of every message."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        size = len(json.dumps(parsed, allow_nan=False))
    except (TypeError, ValueError):
        parsed, size = None, 0
    if not isinstance(parsed, dict):
        raise ValueError("this is not a JSON object")
    if size > _LONGEST_JSON:
        raise ValueError(f"this is longer than {_LONGEST_JSON:,} characters, and it goes into every message")
    return parsed


def first_page(value: Any) -> str | int:
    word = str(value).strip().lower()
    if word not in ("auto", "0", "1"):
        raise ValueError(f"{quoted(value)} is not auto, 0 or 1")
    return word if word == "auto" else int(word)


@dataclass(frozen=True, slots=True)
class Reserve:
    """The part of the month for people and other tools: a share, or a number of requests."""

    share: float | None = None
    requests: int | None = None

    def of(self, monthly_requests: int | None) -> int:
        """Return the reserve in requests; 0 without a limit."""
        if monthly_requests is None:
            return 0
        return self.requests if self.requests is not None else round(monthly_requests * (self.share or 0))

    def __str__(self) -> str:
        return f"{self.requests}" if self.requests is not None else f"{(self.share or 0) * 100:g}%"


def reserve(value: Any) -> Reserve:
    if isinstance(value, Reserve):
        return value
    text = str(value).strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
    if match and float(match[1]) < 100:
        return Reserve(share=float(match[1]) / 100)
    if re.fullmatch(r"\d{1,9}", text):
        return Reserve(requests=int(text))
    raise ValueError(f"{quoted(value)} is neither a share below 100% nor a number of requests")


def share(value: Any) -> float:
    """`20%` or 0.2; a bare 20 is neither."""
    text = str(value).strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text, re.ASCII)
    found = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if isinstance(value, bool) or not 0 <= found <= 1:
        raise ValueError(f"{quoted(value)} is not a share from 0% to 100%")
    return found

"""The forms of settings' values.

Each function takes a value from the environment (text) or a TOML file (text, number, date, list) and
returns the parsed value, or raises ValueError with the mistake; the setting's name is put before it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import Any

from connector.config.addresses import is_loopback, web_address
from connector.domain.budget import PLANS, Plan
from connector.text import counted

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
# No account of Beamer is older.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
# By how much zones and clocks may differ.
_AHEAD = timedelta(days=1)
_NAME = re.compile(r"[A-Za-z0-9_.]{1,40}")
_SHOWABLE = 24
_LONGEST_JSON = 4_000
_SHORTEST_SECRET = 8


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most similar."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def quoted(value: object) -> str:
    """Return a value for an error, but only its length if it may be a key in the wrong place."""
    text = str(value)
    return repr(text) if len(text) <= _SHOWABLE else f"a value of {counted(len(text), 'character')}"


def unknown(word: str, known: Iterable[str], kind: str) -> str:
    known = list(known)
    meant = nearest(word, known)
    return f"{quoted(word)} is not a {kind}" + (f"; did you mean '{meant}'?" if meant else "")


def lowered(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def uppered(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def number(value: Any) -> Any:
    """Refuse TOML's `true`, which would count as 1; pydantic does the rest."""
    if isinstance(value, bool):
        raise ValueError("this is true or false, not a number")
    return value.replace(",", "").replace("_", "") if isinstance(value, str) else value


def number_or_none(value: Any) -> Any:
    return number(lowered(value))


def name(value: Any) -> str:
    """Refuse a hyphen, among others, because messageIds are joined with hyphens."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not a valid name")
    return value


def source_id(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value.strip()):
        raise ValueError(f"{quoted(value)} is not the id of a source")
    return value.strip()


def plan(value: Any) -> Plan:
    if isinstance(value, Plan):
        return value
    word = str(value).strip().lower()
    if word not in PLANS:
        raise ValueError(unknown(word, PLANS, "plan"))
    return PLANS[word]


def words(value: Any) -> tuple[str, ...]:
    """Split `a, b`, or take a list."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise ValueError("this is not a list of words")
    return tuple(dict.fromkeys(word.strip() for word in value if word.strip()))


def word(value: Any) -> str:
    """Take one name, as Beamer has it."""
    if not isinstance(value, str) or not value.strip() or "," in value:
        raise ValueError("this is not a name")
    return value.strip()


def streams(value: Any) -> tuple[str, ...]:
    names = words(value)
    if wrong := [unknown(name, STREAMS, "stream") for name in names if name not in STREAMS]:
        raise ValueError("; ".join(wrong))
    if not names:
        raise ValueError("this names no stream, so nothing would be read")
    return tuple(stream for stream in STREAMS if stream in names)


def weights(value: Any) -> dict[str, float]:
    """Parse `nps=5, reactions=0.2`, or take a table; a stream that is not named has the weight 1."""
    pairs = value.items() if isinstance(value, dict) else (word.partition("=")[::2] for word in words(value))
    texts = {str(name).strip(): str(number).strip() for name, number in pairs}
    if wrong := [unknown(name, STREAMS, "stream") for name in texts if name not in STREAMS]:
        raise ValueError("; ".join(wrong))
    for name, number in texts.items():
        if not re.fullmatch(r"\d{1,4}(\.\d{1,4})?", number, re.ASCII) or not float(number):
            raise ValueError(
                f"the weight of {name} is {quoted(number)}, not a number above 0 and below 10000"
            )
    return {name: float(number) for name, number in texts.items()}


def duration(value: Any) -> Any:
    """Parse `15m`, `1h30m` or plain seconds; pydantic parses ISO 8601."""
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if text[:1] in "Pp" and text:
        return text.upper()
    if isinstance(value, bool) or not _DURATION.fullmatch(text.lower()):
        raise ValueError(f"{quoted(value)} is not a duration")
    seconds = sum(float(size) * _UNITS[unit] for size, unit in _DURATION_PART.findall(text.lower()))
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
    """Check `host:port` (an IPv6 host in brackets), or `none`."""
    text = str(value).strip().lower()
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if text != "none" and not (
        colon and bare and (":" not in bare or bare != host) and port.isdecimal() and int(port) < 65_536
    ):
        raise ValueError(f"{quoted(value)} is not an address")
    return text


A_DATE = "a date such as 2024-01-01, or with a time and zone 2024-01-01T09:00+01:00"


def moment(value: Any) -> datetime:
    """Parse a date or a date with a time into aware UTC; without a zone it is UTC."""
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
    """Check a base URL without user, query or final slash; plain http only to this machine."""
    text = str(value).strip().rstrip("/")
    _check_address(text, "this is not a web address")
    return text


def secret_url(value: Any) -> Any:
    """Check a URL from a file or variable; None if it could not be read, which is reported already."""
    return None if value is None else url(value)


def webhook(value: Any) -> Any:
    """Check a secret URL that may have a query."""
    if value is None:
        return None
    text = str(value).strip()
    _check_address(text.partition("?")[0], "this is not a web address")
    if web_address(text) is None or "#" in text:
        raise ValueError("this is not a web address")
    return text


def host(value: Any) -> str:
    """Check a host, with or without scheme, path and final slash."""
    text = str(value).strip()
    _check_address(text if "://" in text else f"https://{text}", "this is not a host")
    return text.rstrip("/")


def _check_address(text: str, otherwise: str) -> None:
    parts = web_address(text)
    if parts is None:
        raise ValueError(otherwise)
    if "@" in parts.netloc:
        raise ValueError("this contains a user name or a password, which must not be in it")
    if parts.query or parts.fragment:
        raise ValueError("this contains a query or a fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("this is plain http, which would send the key unencrypted; use https")


def key(value: Any) -> Any:
    """Check that a key fits into a header: printable ASCII only, without quotes around it."""
    if not isinstance(value, str):
        return value
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(
            "this contains a space, a line break or a character that no key has; copy only the key"
        )
    if value[:1] in "'\"":
        raise ValueError("the quotes became part of the key; remove them")
    return value


def webhook_secrets(value: Any) -> Any:
    """Check one or several secrets, separated by commas or spaces: each of Beamer's webhooks has its own."""
    if not isinstance(value, str):
        return value
    words = value.replace(",", " ").split()
    if not words or any(len(key(word)) < _SHORTEST_SECRET for word in words):
        raise ValueError(f"a secret has fewer than {counted(_SHORTEST_SECRET, 'character')}")
    return " ".join(words)


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
        raise ValueError(
            f"this is longer than {counted(_LONGEST_JSON, 'character')}, and it goes into every message"
        )
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
    """Parse `20%` or 0.2; a bare 20 is neither."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", str(value).strip(), re.ASCII)
    part = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if isinstance(value, bool) or not 0 <= part <= 1:
        raise ValueError(f"{quoted(value)} is not a share from 0% to 100%")
    return part

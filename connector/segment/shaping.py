"""A row, or a change of one, shaped into an event: whose it is, and its properties."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from sys import float_info
from typing import Any, Literal

from connector import __version__
from connector.segment.events import (
    CONNECTION,
    EVENTS,
    IDENTIFY,
    TRUNCATED,
    Actor,
    Event,
    Property,
    Type,
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened in Beamer: a new row, or a change of a known one.

    `date` is aware UTC: the row's own date, or the time at which a change was seen. `fields` has the names
    of `beamer.streams`; an unknown value may be None or absent.
    """

    kind: str
    id: str
    parent: str  # "0" where there is none
    date: datetime
    fields: Mapping[str, Any]
    change: int = 0  # n for the n-th change of a row


# The slug of this tool, which Segment requires of whoever sends events for others.
INTEGRATION = "beamer-segment"
LONGEST_URL = 2_048
DEEPEST = 6
LARGEST = 2**63 - 1  # what a warehouse column holds

_SCRUB = re.compile("[\x00\ud800-\udfff]")
_AUTHORITY = re.compile(r"^([a-z][a-z0-9+.\-]*:)?//", re.IGNORECASE)


def plain(text: str) -> str:
    """Remove what breaks destinations: NUL is deleted, half a surrogate pair becomes U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return _SCRUB.sub(lambda match: "" if match[0] == "\x00" else "\ufffd", text)


def typed(value: Any, wanted: Type) -> Any:
    """Return the value as a property's type, or None if it is unknown, blank or does not fit."""
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
    # A cut address is useless.
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
    values = value if isinstance(value, list | tuple) else [value]
    return [text for element in values if (text := _string(element)) is not None] or None


def json_safe(value: Any, depth: int = 0) -> Any:
    """Return a custom attribute as plain JSON: no NaN, nothing nested deeper than `DEEPEST`.

    A whole number too large for a warehouse column becomes a floating-point number.
    """
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        if abs(value) <= LARGEST:
            return value
        return float(value) if abs(value) <= float_info.max else None
    if depth < DEEPEST and isinstance(value, dict):
        return {plain(str(key)): json_safe(element, depth + 1) for key, element in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple):
        return [json_safe(element, depth + 1) for element in value]
    return None


def bare(url: str) -> str:
    """Return an address without query, fragment and user, which may contain tokens and names."""
    url = re.split(r"[?#]", url.strip(), maxsplit=1)[0]
    start = match.end() if (match := _AUTHORITY.match(url)) else 0
    authority, slash, path = url[start:].partition("/")
    return url[:start] + authority.rpartition("@")[2] + slash + path


Anonymous = Literal["hold", "shared", "send"]

LONGEST_ID = 100
# The beginning of every messageId: this connector, and the version of the spelling.
PREFIX = "bmr1"

# Values that a page's script passes without a user; as user ids, they would merge strangers.
NO_USERS = frozenset({"", "undefined", "null", "none", "nan", "0", "-1", "[object object]"})

# No hyphen: it separates the parts.
_READABLE = re.compile(r"[A-Za-z0-9_.]+").fullmatch


@dataclass(frozen=True, slots=True)
class Naming:
    """The names in ids; `shared_key`: several connections use one write key."""

    destination: str
    account: str
    connection: str
    shared_key: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of an event's user for Segment."""

    user: str | None = None
    anonymous: str | None = None
    person: bool = True  # False for an id of many people


def user_of(fact: Fact) -> str | None:
    """Return the row's user id, or None if it identifies nobody."""
    return user_id(fact.fields.get("user_id"))


def user_id(value: Any) -> str | None:
    """Return a user id in the form in which it is sent, or None if it identifies nobody."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    user = (typed(value, "string") or "").strip()
    return None if user.casefold() in NO_USERS else user


def message_id(naming: Naming, fact: Fact) -> str:
    """Return the id by which Segment drops repeats: the same on every machine, also without a database."""
    parts = [naming.destination, naming.account, fact.kind, fact.parent, fact.id]
    if fact.change > 0:
        parts.append(str(fact.change))
    readable = "-".join([PREFIX, *parts])
    if len(readable) <= LONGEST_ID and all(map(_READABLE, parts)):
        return readable
    return f"{PREFIX}-{_digest(*parts)}"


def identity_of(fact: Fact, actor: Actor, naming: Naming, anonymous: Anonymous) -> Identity:
    """Choose the id of an event; raise ValueError for a user's row without a user under "hold"."""
    connection = Identity(anonymous=f"beamer-{naming.connection}", person=False)
    if actor == "connection":
        return connection
    if user := user_of(fact):
        return Identity(user=user)
    if fact.fields.get("team") is True or anonymous == "shared":
        return connection
    if anonymous == "send":
        return Identity(anonymous=_stranger(fact, naming))
    raise ValueError("a row without a user id is excluded before shaping")


def _stranger(fact: Fact, naming: Naming) -> str:
    email = (typed(fact.fields.get("email"), "string") or "").strip().lower()
    who = ("email", email) if "@" in email else ("row", fact.kind, fact.parent, fact.id)
    return "bmru-" + _digest(naming.account, *who)[:32]


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


Texts = Literal["full", "short", "none"]

# The number of characters of a user's text that `texts = "short"` keeps.
SHORT = 140


@dataclass(frozen=True, slots=True)
class Privacy:
    """What may be sent: whose rows, under which id, with which traits, and how much of users' texts."""

    anonymous: Anonymous = "hold"
    traits: Literal["none", "email", "all"] = "none"
    trait_attributes: tuple[str, ...] = ()
    ref_url: Literal["bare", "full"] = "bare"
    integrations: Mapping[str, Any] | None = None
    texts: Texts = "full"
    group_attribute: str | None = None


@dataclass(frozen=True, slots=True)
class Shaped:
    """A message before it is built; `body` has the arguments of `track`, or of `identify`."""

    message_id: str
    event: str
    body: dict[str, Any]


# A Date header has whole seconds, and is older by the time the answer took.
INEXACT = timedelta(seconds=5)


def shape(fact: Fact, naming: Naming, privacy: Privacy, now: datetime) -> Shaped:
    """Shape a fact; `now` is Beamer's time, and no event is later by more than a few seconds.

    Raises ValueError under "hold" for a user's row without a user, which the caller must exclude.
    """
    event = EVENTS.get(fact.kind)
    if event is None:
        raise ValueError(f"no event for kind {fact.kind!r}")
    identity = identity_of(fact, event.actor, naming, privacy.anonymous)
    ident = message_id(naming, fact)
    body = {
        "user_id": identity.user,
        "anonymous_id": identity.anonymous,
        "event": event.name,
        "properties": _properties(fact, event, naming, privacy),
        "context": _context(fact, identity, privacy),
        "timestamp": (fact.date if fact.date - now <= INEXACT else now).astimezone(UTC),
        "integrations": dict(privacy.integrations or {}),
        "message_id": ident,
    }
    return Shaped(ident, event.name, body)


def traits_of(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return the traits that `identify` sends of a user; a long text is none."""
    values = {p.name: typed(profile.get(p.source), p.type) for p in IDENTIFY.properties}
    return {name: value for name, value in values.items() if value is not None and len(value) <= LONGEST_URL}


def identify(
    user: str, traits: Mapping[str, Any], same: str, seen: datetime, parts: Naming, privacy: Privacy
) -> Shaped:
    """Shape the traits of a user who was last `seen` at that time; `same` is equal for equal messages."""
    # The user is included: two users may have the same traits.
    fact = Fact(IDENTIFY.kind, _digest(user, same)[:32], "0", seen, {})
    ident = message_id(parts, fact)
    body = {
        "user_id": user,
        "traits": dict(traits),
        "context": _context(fact, Identity(user=user), privacy),
        "timestamp": seen.astimezone(UTC),
        "integrations": dict(privacy.integrations or {}),
        "message_id": ident,
    }
    return Shaped(ident, IDENTIFY.name, body)


def _properties(fact: Fact, event: Event, naming: Naming, privacy: Privacy) -> dict[str, Any]:
    known, truncated = {}, False
    for p in event.properties:
        value = _value(fact, p, privacy)
        out = value if privacy.texts == "full" else _let_out(p, value, privacy.texts)
        if out is not None or p.in_beamers_source:
            known[p.name] = out
        truncated = truncated or (out is not None and out != value)
    if truncated:
        known[TRUNCATED.name] = True
    return known | ({CONNECTION.name: naming.connection} if naming.shared_key else {})


def _let_out(p: Property, value: Any, texts: Texts) -> Any:
    """Return the part of a value that the setting `texts` permits."""
    if texts == "none" and (p.users_words or p.slug):
        return None
    return value[:SHORT] if texts == "short" and p.users_words and value else value


def _value(fact: Fact, p: Property, privacy: Privacy) -> Any:
    if p.source == "id":
        return fact.id
    if p.source == "parent":
        return None if fact.parent == "0" else fact.parent
    value = fact.fields.get(p.source)
    if p.source == "ref_url" and isinstance(value, str) and privacy.ref_url == "bare":
        value = bare(value)
    return typed(value, p.type)


def _context(fact: Fact, identity: Identity, privacy: Privacy) -> dict[str, Any]:
    context: dict[str, Any] = {"integration": {"name": INTEGRATION, "version": __version__}}
    # With an id of many people, one person's traits would become everybody's.
    if identity.person and (traits := _traits(fact, privacy)):
        context["traits"] = traits
    if identity.person and (group := _group(fact, privacy.group_attribute)):
        context["groupId"] = group
    return context


def _group(fact: Fact, attribute: str | None) -> str | None:
    """Return the id of the user's company; a long text is none."""
    values = fact.fields.get("attributes")
    group = typed(values.get(attribute), "string") if attribute and isinstance(values, Mapping) else None
    return group if group is None or len(group) <= LONGEST_ID else None


def _traits(fact: Fact, privacy: Privacy) -> dict[str, Any]:
    if privacy.traits == "none":
        return {}
    names = {"email": "email"}
    if privacy.traits == "all":
        names |= {"firstName": "first_name", "lastName": "last_name"}
    values = {trait: typed(fact.fields.get(field), "string") for trait, field in names.items()}
    allowed = _attributes(fact, privacy) if privacy.traits == "all" else {}
    return allowed | {trait: value for trait, value in values.items() if value is not None}


def _attributes(fact: Fact, privacy: Privacy) -> dict[str, Any]:
    values = fact.fields.get("attributes")
    if not isinstance(values, Mapping):
        return {}
    return {plain(name): json_safe(values[name]) for name in privacy.trait_attributes if name in values}

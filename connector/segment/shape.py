"""A fact shaped into the arguments of Segment's `track`: pure, and driven by the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from connector import __version__
from connector.segment.events import CONNECTION, EVENTS, TRUNCATED, Event, Property
from connector.segment.facts import Fact
from connector.segment.identity import Anonymous, Identity, Naming, identity_of, message_id, user_of
from connector.segment.values import bare, plain, tame, typed

__all__ = ["Naming", "Privacy", "Shaped", "message_id", "shape", "user_of"]


Texts = Literal["full", "short", "none"]

# How many characters of a user's text are left by `texts = "short"`.
SHORT = 140


@dataclass(frozen=True, slots=True)
class Privacy:
    """What may leave: of whom, under which id, with which traits and how much of the users' texts."""

    anonymous: Anonymous = "hold"
    traits: Literal["none", "email", "all"] = "none"
    trait_attributes: tuple[str, ...] = ()
    ref_url: Literal["bare", "full"] = "bare"
    integrations: Mapping[str, Any] | None = None
    texts: Texts = "full"


@dataclass(frozen=True, slots=True)
class Shaped:
    """A message not yet built: `body` holds the arguments of `track`."""

    message_id: str
    event: str
    body: dict[str, Any]


def shape(fact: Fact, naming: Naming, privacy: Privacy, now: datetime) -> Shaped:
    """Shape a fact; `now` is Beamer's, and no event is later than it.

    A user's row without a user is the caller's to hold back: here it is a ValueError under "hold".
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
        "timestamp": min(fact.date, now).astimezone(UTC),
        "integrations": dict(privacy.integrations or {}),
        "message_id": ident,
    }
    return Shaped(ident, event.name, body)


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
    """As much of a value as the setting lets out of what users write."""
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
    context: dict[str, Any] = {"integration": {"name": "Beamer", "version": __version__}}
    # On an id that stands for many, one person's traits would become everybody's.
    if identity.person and (traits := _traits(fact, privacy)):
        context["traits"] = traits
    return context


def _traits(fact: Fact, privacy: Privacy) -> dict[str, Any]:
    if privacy.traits == "none":
        return {}
    names = {"email": "email"}
    if privacy.traits == "all":
        names |= {"firstName": "first_name", "lastName": "last_name"}
    own = {trait: typed(fact.fields.get(field), "string") for trait, field in names.items()}
    allowed = _attributes(fact, privacy) if privacy.traits == "all" else {}
    return allowed | {trait: value for trait, value in own.items() if value is not None}


def _attributes(fact: Fact, privacy: Privacy) -> dict[str, Any]:
    given = fact.fields.get("attributes")
    if not isinstance(given, Mapping):
        return {}
    return {plain(name): tame(given[name]) for name in privacy.trait_attributes if name in given}

"""Who and which: the id an event goes under, and the id by which Segment knows a message again."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from connector.segment.facts import Fact
from connector.segment.properties import Actor
from connector.segment.values import typed

Anonymous = Literal["hold", "shared", "send"]

LONGEST_ID = 100
# Of every messageId: whose it is, and the version of its spelling.
PREFIX = "bmr1"

# What a page's script hands over when it has no user: accepted, each would merge strangers into one.
NO_USERS = frozenset({"", "undefined", "null", "none", "nan", "0", "-1", "[object object]"})

# No hyphen: it separates the parts.
_READABLE = re.compile(r"[A-Za-z0-9_.]+").fullmatch


@dataclass(frozen=True, slots=True)
class Naming:
    """The names that go into ids; `shared_key` where several connections send to one write key."""

    destination: str
    account: str
    connection: str
    shared_key: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an event is about, as Segment is told."""

    user: str | None = None
    anonymous: str | None = None
    person: bool = True  # false for an id that stands for many


def user_of(fact: Fact) -> str | None:
    """The row's user id, or None where it has none that identifies anybody."""
    return user_id(fact.fields.get("user_id"))


def user_id(value: Any) -> str | None:
    """A user id in the one form in which it is sent, or None for what identifies nobody."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    user = (typed(value, "string") or "").strip()
    return None if user.casefold() in NO_USERS else user


def message_id(naming: Naming, fact: Fact) -> str:
    """The id by which Segment drops repeats: the same on every machine and after the state was lost."""
    parts = [naming.destination, naming.account, fact.kind, fact.parent, fact.id]
    if fact.change > 0:
        parts.append(str(fact.change))
    readable = "-".join([PREFIX, *parts])
    if len(readable) <= LONGEST_ID and all(map(_READABLE, parts)):
        return readable
    return f"{PREFIX}-{_digest(*parts)}"


def identity_of(fact: Fact, actor: Actor, naming: Naming, anonymous: Anonymous) -> Identity:
    """Choose the id that an event goes under; a user's row without a user is a ValueError under "hold"."""
    connection = Identity(anonymous=f"beamer-{naming.connection}", person=False)
    if actor == "connection":
        return connection
    if user := user_of(fact):
        return Identity(user=user)
    if fact.fields.get("team") is True or anonymous == "shared":
        return connection
    if anonymous == "send":
        return Identity(anonymous=_stranger(fact, naming))
    raise ValueError("a row without a user id is held back before shaping")


def _stranger(fact: Fact, naming: Naming) -> str:
    email = (typed(fact.fields.get("email"), "string") or "").strip().lower()
    who = ("email", email) if "@" in email else ("row", fact.kind, fact.parent, fact.id)
    return "bmru-" + _digest(naming.account, *who)[:32]


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

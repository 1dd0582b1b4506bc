"""What an event and a property of one are, as the catalogue describes them."""

from dataclasses import dataclass
from typing import Literal

Type = Literal["string", "url", "date-time", "integer", "boolean", "array"]
Actor = Literal["user", "connection"]


@dataclass(frozen=True, slots=True)
class Property:
    """One property of an event; `source` names a field of the fact, or its `id` or `parent`."""

    name: str
    type: Type
    meaning: str
    source: str
    example: str
    in_beamers_source: bool = False
    nullable: bool = False
    free_text: bool = False  # a person wrote it: may be shortened where a message is too long
    by_team: bool = False  # of a free text: published by the team, so the `texts` setting spares it
    slug: bool = False  # an address made of a user's words: left out where texts are

    @property
    def users_words(self) -> bool:
        """Whether the `texts` setting decides how much of it is sent."""
        return self.free_text and not self.by_team

    @property
    def always(self) -> bool:
        """Whether every message of the event carries it, if only as null."""
        return self.in_beamers_source or self.source in ("id", "parent")


@dataclass(frozen=True, slots=True)
class Event:
    """One event; under `actor` "connection" it never goes under a user's id."""

    name: str
    kind: str
    stream: str
    when: str
    properties: tuple[Property, ...]
    actor: Actor = "user"

"""At least one message of every event, and each with values of every unpleasant kind."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connector.segment.events import EVENTS, Event
from connector.segment.messages import Message, build
from connector.segment.shaping import Fact, Naming, Privacy, shape

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
DATE = datetime(2026, 3, 1, 9, 15, 42, tzinfo=UTC)
NAMING = Naming("production", "acme", "default", shared_key=True)
PRIVACY = Privacy(
    anonymous="send",
    traits="all",
    trait_attributes=("organization",),
    ref_url="full",
    integrations={"All": True, "Mixpanel": False},
)
WORDS = {
    "emoji": "👩🏽‍🚀 done \U0001f469‍\U0001f469‍\U0001f467‍\U0001f466 🏳️‍🌈",
    "very long": 'long "words" \\ and 😀\n' * 4_000,
    "right-to-left": "\u202eתודה רבה, עובד מצוין – شكرا جزيلا\u202c",
}
ABSENT: Mapping[str, Any] = {"missing": {}, "null": None}
VARIANTS = ("usual", *ABSENT, *WORDS)
USERS = {"usual": "u1", "emoji": "u😀", "very long": "u" * 300, "right-to-left": "משתמש-7"}


@dataclass(frozen=True)
class Sample:
    """One message, with the event's kind and what was unpleasant about the row."""

    kind: str
    variant: str
    message: Message

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.message.text)
        return found


def samples() -> Iterator[Sample]:
    """Every event in every variant."""
    for event in EVENTS.values():
        for variant in VARIANTS:
            yield sample(event, variant)


def sample(event: Event, variant: str, privacy: Privacy = PRIVACY) -> Sample:
    sources = [p.source for p in event.properties if p.source not in ("id", "parent")]
    fields: dict[str, Any] = {}
    if variant == "usual":
        fields = {p.source: _usual(p.type, p.example) for p in event.properties if p.source in sources}
    elif variant == "null":
        fields = dict.fromkeys([*sources, "user_id", "email", "first_name", "last_name", "attributes"])
    elif variant in WORDS:
        fields = {
            p.source: _words(variant, whole=p.free_text) for p in event.properties if p.source in sources
        }
    if variant in USERS:
        fields |= _person(variant)
    has_parent = any(p.source == "parent" for p in event.properties)
    fact = Fact(event.kind, "1234", "123" if has_parent else "0", DATE, fields)
    return Sample(event.kind, variant, build(shape(fact, NAMING, privacy, NOW)))


def _words(variant: str, *, whole: bool) -> str:
    """What no person typed, such as a category, is never so long that it alone fills a message."""
    return WORDS[variant] if whole else WORDS[variant][:900]


def _usual(kind: str, example: str) -> Any:
    if kind == "date-time":
        return datetime.fromisoformat(example)
    return json.loads(example) if kind in ("integer", "array") else example


def _person(variant: str) -> dict[str, Any]:
    name = WORDS.get(variant, "Jane")
    return {
        "user_id": USERS[variant],
        "email": "jane@example.com",
        "first_name": name[:50],
        "last_name": name[:50],
        "attributes": {"organization": name[:50], "age": 33},
    }

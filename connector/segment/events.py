"""Every event as data (name, properties, their sources), and as tables, JSON Schema and tracking plan."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

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
        """Return whether the `texts` setting decides how much of it is sent."""
        return self.free_text and not self.by_team

    @property
    def always(self) -> bool:
        """Return whether every message of the event has it, at least as null."""
        return self.in_beamers_source or self.source in ("id", "parent")


@dataclass(frozen=True, slots=True)
class Event:
    """One event; with `actor` "connection" it is never sent with a user's id."""

    name: str
    kind: str
    stream: str
    when: str
    properties: tuple[Property, ...]
    actor: Actor = "user"


def _text(name: str, meaning: str, source: str, example: str, *, beamers: bool = False) -> Property:
    return Property(name, "string", meaning, source, example, beamers, nullable=beamers, free_text=True)


def _post_title(meaning: str, *, beamers: bool = True) -> Property:
    return replace(_text("post", meaning, "title", "Dark mode is here", beamers=beamers), by_team=True)


def _own(name: str, type: Type, meaning: str, example: str) -> Property:
    return Property(name, type, meaning, name, example, in_beamers_source=True, nullable=True)


def _id(name: str, meaning: str, source: str = "id", example: str = "1234") -> Property:
    return Property(name, "string", meaning, source, example)


def _number(name: str, meaning: str, example: str) -> Property:
    return Property(name, "integer", meaning, name, example)


def _moment(name: str, meaning: str, source: str) -> Property:
    return Property(name, "date-time", meaning, source, "2026-03-01T12:00:00+00:00")


def _of_stream(stream: str) -> tuple[Property, ...]:
    """Return the properties of `Beamer Sync Completed` for one stream; absent if it is not listed."""
    through = f"{stream}_complete_through"
    return (
        _moment(through, f"All rows of {stream} up to this time are read", through),
        _number(f"{stream}_sent", "Events that Segment has confirmed, in total", "1234"),
        _number(f"{stream}_excluded", "Rows that a setting excluded, in total", "12"),
        _number(f"{stream}_refused", "Events that Segment refused; they are kept in the outbox", "0"),
    )


_POST_ID = _id("post_id", "Id of the post in Beamer", "parent", "123")
_OWN_POST_ID = _id("post_id", "Id of the post in Beamer", example="123")
_REQUEST_ID = _id("request_id", "Id of the feature request in Beamer", "parent", "123")
_OWN_REQUEST_ID = _id("request_id", "Id of the feature request in Beamer", example="123")
_LINK = Property(
    "beamer_url",
    "url",
    "Link to the row in Beamer's dashboard",
    "url",
    "https://app.getbeamer.com/inbox#comment?id=1234",
)
_TITLE = _text("title", "Title of the feature request, first translation", "title", "Dark mode")
_POST = _post_title("Title of the post, first translation", beamers=False)
_CATEGORY = Property("category", "string", "Category in Beamer", "category", "new")
_STATUS = Property("status", "string", "Status of the feature request", "status", "under_review")
_PERMALINK = Property(
    "url",
    "url",
    "Permalink of the feature request",
    "permalink",
    "https://app.getbeamer.com/beamer/requests/en/dark-mode",
    slug=True,
)

_OF_ROWS = (
    Event(
        "Post Commented",
        "comment",
        "comments",
        "A user commented on a post",
        (
            _post_title("Title of the post commented on"),
            _text("comment", "Full text of the comment", "text", "Finally!", beamers=True),
            _POST_ID,
            _id("comment_id", "Id of the comment in Beamer"),
            _LINK,
        ),
    ),
    Event(
        "Post Reacted To",
        "reaction",
        "reactions",
        "A user reacted to a post",
        (
            _post_title("Title of the post reacted to"),
            Property(
                "reaction", "string", "positive, neutral or negative", "reaction", "positive", True, True
            ),
            _POST_ID,
            _id("reaction_id", "Id of the reaction in Beamer"),
            _LINK,
        ),
    ),
    Event(
        "NPS Response Sent",
        "nps",
        "nps",
        "A user answered the NPS survey",
        (
            _own("score", "integer", "Score from 0 to 10", "10"),
            _text("comment", "Text sent after the score, if any", "text", "Love this app!", beamers=True),
            _id("nps_id", "Id of the response in Beamer", example="64e508e8961ebc4a71688027"),
            Property(
                "ref_url", "url", "Page the answer came from", "ref_url", "https://app.example.com/home"
            ),
            _LINK,
        ),
    ),
    Event(
        "Post Published",
        "post",
        "posts",
        "A post was published",
        (
            _POST,
            _OWN_POST_ID,
            _CATEGORY,
            Property("languages", "array", "Languages of its translations", "languages", '["EN", "ES"]'),
            Property("link_url", "url", "Where the post links to", "link_url", "https://www.example.com/"),
        ),
        "connection",
    ),
    Event(
        "Feature Request Submitted",
        "request",
        "feature_requests",
        "A user or the team submitted a feature request",
        (_TITLE, _OWN_REQUEST_ID, _CATEGORY, _STATUS, _PERMALINK),
    ),
    Event(
        "Feature Request Commented",
        "requestcomment",
        "feature_request_comments",
        "A user commented on a feature request",
        (
            _TITLE,
            _text("comment", "Full text of the comment", "text", "Please!"),
            _REQUEST_ID,
            _id("comment_id", "Id of the comment in Beamer"),
            _LINK,
        ),
    ),
    Event(
        "Feature Request Voted",
        "vote",
        "feature_request_votes",
        "A user voted for a feature request",
        (_TITLE, _REQUEST_ID, _id("vote_id", "Id of the vote in Beamer"), _LINK),
    ),
    Event(
        "Feature Request Status Changed",
        "status",
        "feature_requests",
        "Two checks showed a feature request with a new status",
        (
            _TITLE,
            _OWN_REQUEST_ID,
            Property("previous_status", "string", "Status before the change", "previous_status", "planned"),
            _STATUS,
            _PERMALINK,
        ),
        "connection",
    ),
    Event(
        "Post Metrics Updated",
        "metrics",
        "posts",
        "A post's totals changed; off by default, at most once per post and UTC day",
        (
            _POST,
            _OWN_POST_ID,
            _number("views", "Views in total", "310"),
            _number("unique_views", "Unique views in total", "250"),
            _number("clicks", "Clicks in total", "120"),
            _number("views_change", "Views since the last such event", "12"),
            _number("unique_views_change", "Unique views since the last such event", "9"),
            _number("clicks_change", "Clicks since the last such event", "3"),
        ),
        "connection",
    ),
)

SENDING = tuple(dict.fromkeys(event.stream for event in _OF_ROWS))

_OF_THE_CONNECTOR = (
    Event(
        "Beamer Sync Completed",
        "sync",
        "none",
        "A sync ended; off by default, at most once per connection and hour",
        (
            _moment(
                "complete_through", "All rows of all streams up to this time are read", "complete_through"
            ),
            _number("waiting", "Events that wait for Segment", "0"),
            _number("quarantined", "Rows that went into quarantine, in total", "0"),
            *chain.from_iterable(map(_of_stream, SENDING)),
        ),
        "connection",
    ),
    Event(
        "Beamer Connector Tested",
        "test",
        "none",
        "`check --send-test` was run",
        (_id("test_id", "Id of the test"),),
        "connection",
    ),
)
_ALL = (*_OF_ROWS, *_OF_THE_CONNECTOR)

EVENTS: Mapping[str, Event] = {event.kind: event for event in _ALL}
# Not a track: its properties are traits of the user. A tracking plan has one rule for all identify calls of a
# source, so that a rule of ours would replace the customer's own.
IDENTIFY = Event(
    "identify",
    "identify",
    "users",
    "Traits of a user who was seen; off by default, at most once per user and UTC day of the last visit",
    (
        Property("beamer_language", "string", "Language of the user in Beamer", "language", "EN"),
        Property("beamer_filter", "string", "Segmentation filter of the user in Beamer", "filter", "admin"),
        _moment("beamer_first_seen", "When Beamer first saw the user", "first_seen"),
        _moment("beamer_last_seen", "When Beamer last saw the user", "last_seen"),
    ),
)
FREE_TEXT = frozenset(p.name for event in _ALL for p in event.properties if p.free_text)

CONNECTION = Property(
    "beamer_connection",
    "string",
    "The connection that sent it, if several share a write key",
    "connection",
    "default",
)
TRUNCATED = Property("truncated", "boolean", "true if a text was shortened or left out", "size", "true")
# Properties that any event may have.
EVERYWHERE = (CONNECTION, TRUNCATED)


# --- the same as tables, JSON Schema and tracking plan ---

DRAFT = "http://json-schema.org/draft-07/schema#"
# JSON Schema has no type for an address or a date.
WRITTEN = {"url": "string", "date-time": "string"}

Schema = dict[str, Any]


def schema_of(event: Event) -> Schema:
    """Return the schema of a whole message of the event, in which other properties are errors."""
    schema = _rule_of(event)
    schema["properties"]["properties"]["additionalProperties"] = False
    return schema


def schemas() -> dict[str, Schema]:
    """Return every event's schema by the event's name."""
    return {event.name: schema_of(event) for event in EVENTS.values()}


def tracking_plan() -> Schema:
    """Return the rules in the form of Segment's Public API.

    They permit other properties: blocking is a setting in Segment, and a later version's new property should
    show as unplanned instead of being dropped.
    """
    rules = [
        {"key": event.name, "type": "TRACK", "version": 1, "jsonSchema": _rule_of(event)}
        for event in EVENTS.values()
    ]
    return {"rules": rules}


def _rule_of(event: Event) -> Schema:
    named = (*event.properties, *EVERYWHERE)
    return {
        "$schema": DRAFT,
        "title": event.name,
        "description": event.when,
        "type": "object",
        "properties": {
            "context": {"type": "object"},
            "traits": {"type": "object"},
            "properties": {
                "type": "object",
                "properties": {p.name: _described(p) for p in named},
                "required": [p.name for p in event.properties if p.always],
            },
        },
        "required": ["properties"],
    }


def _described(p: Property) -> Schema:
    kind = WRITTEN.get(p.type, p.type)
    schema: Schema = {"type": [kind, "null"] if p.nullable else kind, "description": p.meaning}
    if p.type == "date-time":
        schema["format"] = p.type
    if p.type == "array":
        schema["items"] = {"type": "string"}  # without it Segment calls the elements unplanned
    return schema


HEAD = ("event", "when", "property", "type", "meaning", "example", "in Beamer's own source")
Cells = tuple[str, ...]


def listed() -> Iterator[Cells]:
    """Yield one row of cells per property, each with the event's name."""
    for event in (*EVENTS.values(), IDENTIFY):
        yield from (_cells(event.name, event.when, p) for p in event.properties)
    yield from (_cells("any event", "only if it applies", p) for p in EVERYWHERE)


def _cells(name: str, when: str, p: Property) -> Cells:
    kind = f"{p.type} or null" if p.nullable else p.type
    return (name, when, p.name, kind, p.meaning, p.example, "yes" if p.in_beamers_source else "")


def markdown_table() -> str:
    """Return the catalogue for the documentation; only an event's first line has its name."""
    lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
    before = ""
    for name, when, prop, kind, meaning, example, in_source in listed():
        head = ("", "") if name == before else (f"**{name}**", when)
        lines.append(_line((*head, f"`{prop}`", kind, meaning, f"`{example}`", in_source)))
        before = name
    return "\n".join(lines) + "\n"


def _line(cells: Cells) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

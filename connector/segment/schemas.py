"""The events as tables, JSON Schema and a Segment tracking plan."""

from collections.abc import Iterator
from typing import Any

from connector.segment.events import EVENTS, EVERYWHERE, Event, Property

DRAFT = "http://json-schema.org/draft-07/schema#"
# JSON has no word for an address or a moment.
WRITTEN = {"url": "string", "date-time": "string"}

Schema = dict[str, Any]


def schema_of(event: Event) -> Schema:
    """What a whole message of the event looks like; a property that is not named here is an error."""
    schema = _rule_of(event)
    schema["properties"]["properties"]["additionalProperties"] = False
    return schema


def schemas() -> dict[str, Schema]:
    """Every event's schema, by the event's name."""
    return {event.name: schema_of(event) for event in EVENTS.values()}


def tracking_plan() -> Schema:
    """The rules as Segment's Public API takes them.

    What is not named stays allowed in them: whether Segment blocks it is a setting of its own there, and
    a later version's new property should show as unplanned rather than vanish.
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
    found: Schema = {"type": [kind, "null"] if p.nullable else kind, "description": p.meaning}
    if p.type == "date-time":
        found["format"] = p.type
    if p.type == "array":
        found["items"] = {"type": "string"}  # without it Segment calls what is inside unplanned
    return found


HEAD = ("event", "when", "property", "type", "meaning", "example", "in Beamer's own source")
Cells = tuple[str, ...]


def listed() -> Iterator[Cells]:
    """One row of cells per property, the event named in each."""
    for event in EVENTS.values():
        yield from (_cells(event.name, event.when, p) for p in event.properties)
    yield from (_cells("any event", "only if it applies", p) for p in EVERYWHERE)


def _cells(name: str, when: str, p: Property) -> Cells:
    kind = f"{p.type} or null" if p.nullable else p.type
    return (name, when, p.name, kind, p.meaning, p.example, "yes" if p.in_beamers_source else "")


def markdown_table() -> str:
    """The catalogue for the README; an event is named in its first line only."""
    lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
    before = ""
    for name, when, prop, kind, meaning, example, own in listed():
        head = ("", "") if name == before else (f"**{name}**", when)
        lines.append(_line((*head, f"`{prop}`", kind, meaning, f"`{example}`", own)))
        before = name
    return "\n".join(lines) + "\n"


def _line(cells: Cells) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""The catalogue for programs: a JSON Schema per event, and the tracking plan for Segment Protocols."""

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

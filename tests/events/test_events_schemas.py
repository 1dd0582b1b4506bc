"""The catalogue, the schemas, the tracking plan, the table in docs/ and the messages are one."""

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector.beamer.streams import CATALOGUE
from connector.segment.events import (
    EVENTS,
    EVERYWHERE,
    IDENTIFY,
    SENDING,
    Event,
    listed,
    markdown_table,
    schema_of,
    schemas,
    tracking_plan,
)
from tests.cli.process import ROOT
from tests.docs.sections import rows
from tests.events.judging import flaws
from tests.events.samples import VARIANTS, sample, samples

EACH = pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.kind)


def named(schema: dict[str, Any]) -> set[str]:
    return set(schema["properties"]["properties"]["properties"])


@EACH
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_sample_fits_its_schema(event: Event, variant: str) -> None:
    assert flaws(sample(event, variant).content) == []


@EACH
def test_a_schema_is_one(event: Event) -> None:
    Draft7Validator.check_schema(schema_of(event))
    assert schemas()[event.name] == schema_of(event)


@EACH
def test_a_schema_refuses_what_is_not_so(event: Event) -> None:
    def spoilt(**properties: Any) -> list[str]:
        message = sample(event, "usual").content
        message["properties"] |= properties
        return flaws(message)

    assert not spoilt()
    assert any("nickname" in flaw for flaw in spoilt(nickname="Jo"))
    assert spoilt(truncated="yes")
    for p in event.properties:
        assert bool(spoilt(**{p.name: None})) != p.nullable, p.name
        assert spoilt(**{p.name: {"an": "object"}}), p.name
    required = schema_of(event)["properties"]["properties"]["required"]
    assert required == [p.name for p in event.properties if p.in_beamers_source or p.name.endswith("_id")]


def test_the_tracking_plan_names_every_property_that_any_event_carries_and_no_other() -> None:
    rules = {rule["key"]: rule for rule in tracking_plan()["rules"]}
    assert set(rules) == {event.name for event in EVENTS.values()}
    carried: dict[str, set[str]] = {name: set() for name in rules}
    for each in samples():
        carried[each.content["event"]] |= set(each.content["properties"])
    for event in EVENTS.values():
        rule = rules[event.name]
        assert (rule["type"], rule["version"]) == ("TRACK", 1)
        plan, own = named(rule["jsonSchema"]), {p.name for p in event.properties}
        assert plan == own | {p.name for p in EVERYWHERE}
        assert own <= carried[event.name] <= plan
    assert set().union(*carried.values()) >= {"truncated", "beamer_connection"}


def test_the_plan_and_the_schemas_differ_in_what_is_unplanned_only() -> None:
    for rule in tracking_plan()["rules"]:
        strict = schemas()[rule["key"]]
        assert strict["properties"]["properties"].pop("additionalProperties") is False
        assert strict == rule["jsonSchema"]


def test_the_table_names_what_the_plan_names() -> None:
    table = {(name, prop) for name, _, prop, *_ in listed()}
    everywhere = {p.name for p in EVERYWHERE}
    assert table == {(e.name, p.name) for e in (*EVENTS.values(), IDENTIFY) for p in e.properties} | {
        ("any event", name) for name in everywhere
    }
    assert len(rows(markdown_table())) == len(table)
    assert markdown_table().rstrip() in (ROOT / "docs" / "reference" / "events.md").read_text(
        encoding="utf-8"
    )


def test_the_sync_event_knows_every_stream() -> None:
    assert set(SENDING) == set(CATALOGUE)


def test_both_forms_are_json_that_a_program_takes() -> None:
    for form in (schemas(), tracking_plan()):
        assert json.loads(json.dumps(form)) == form

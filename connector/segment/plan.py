"""The tracking plan of a source, compared with the plan of this version's events."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connector.segment.events import tracking_plan
from connector.segment.public_api import Json, PlanSettings


@dataclass(frozen=True, slots=True)
class PlanDifferences:
    """Names of our events: `blocked` ones are dropped, `unknown` and `differing` ones are not as sent."""

    blocked: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()


def compare_plan(rules: Iterable[Json], settings: PlanSettings) -> PlanDifferences:
    """Compare the rules of a source's plan with the events that are sent."""
    installed = {
        str(rule.get("key")): rule.get("jsonSchema") for rule in rules if rule.get("type") == "TRACK"
    }
    unknown, violated, differing = [], [], []
    for ours in tracking_plan()["rules"]:
        name = ours["key"]
        if name not in installed:
            unknown.append(name)
        elif any(_violations(ours["jsonSchema"], installed[name])):
            violated.append(name)
        elif _names(ours["jsonSchema"]) - _names(installed[name]):
            differing.append(name)
    blocked = (unknown if settings.unplanned_blocked else []) + (
        violated if settings.violations_blocked else []
    )
    return PlanDifferences(
        tuple(blocked),
        () if settings.unplanned_blocked else tuple(unknown),
        tuple(differing + ([] if settings.violations_blocked else violated)),
    )


def _violations(ours: Json, installed: Any) -> Iterator[str]:
    """Yield the properties by which our messages may violate a rule: required, or of another type."""
    sent, wanted = _properties(ours), _properties(installed)
    always = set(_part(ours).get("required", ()))
    required = _part(installed).get("required")
    yield from (str(name) for name in required if name not in always) if isinstance(required, list) else ()
    for name, schema in sent.items():
        allowed = _types(wanted.get(name))
        if allowed and not _types(schema) <= allowed:
            yield name


def _part(schema: Any) -> Mapping[str, Any]:
    """Return the schema of the properties in a rule's schema of the whole message."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    part = properties.get("properties") if isinstance(properties, dict) else None
    return part if isinstance(part, dict) else {}


def _properties(schema: Any) -> Mapping[str, Any]:
    properties = _part(schema).get("properties")
    return properties if isinstance(properties, dict) else {}


def _names(schema: Any) -> set[str]:
    return set(_properties(schema))


def _types(schema: Any) -> set[str]:
    kind = schema.get("type") if isinstance(schema, dict) else None
    types = (
        {kind} if isinstance(kind, str) else {str(name) for name in kind} if isinstance(kind, list) else set()
    )
    return types | {"integer"} if "number" in types else types

"""A life as a story: what in it is not as usual, by name, as a test file can hold it."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any, Self

from connector.sandbox import STREAMS, Company
from tests.simulation.choices import Choices
from tests.simulation.plan import HOUR, Faults, Member, Plan

STREAM_NAMES = re.compile(rf"\b({'|'.join(sorted(STREAMS, key=len, reverse=True))})\b")
NUMBERED = re.compile(r"\S*\d\S*|'[^']*'")
SEVERAL = re.compile(r"#(, #)+")
# A life in which nobody does anything, and nothing happens by itself.
STILL = Plan(
    seed=0,
    syncs=27,
    rhythm=6 * HOUR,
    company=Company.empty(),
    switches={},
    members=(Member("default", "dest", 30, STREAMS),),
    monthly=None,
    reserve=0,
    period_day=None,
    ahead=0 * HOUR,
    step=0 * HOUR,
    wrong_clock=None,
    troubles=Faults(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0),
    happenings=0.0,
)
ANOTHER = Member("second", "other", 30, STREAMS)


@dataclass(frozen=True, slots=True)
class Story:
    """What is not as in a still life: settings by their places in the plan, events by their names.

    It outlives changes of the connector: an event names a row, a run's n-th request to a path, or its n-th
    moment of a kind, and one that does not come any more does nothing. It does not outlive another number
    of requests to that path, or of such moments, before the one that it names; nor another making of what
    is drawn from seeds of its own (the company's rows, the fate of webhooks, faults of the storage); nor
    other names of settings and events.
    """

    wrong: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, choices: Choices, wrong: str) -> Self:
        """Tell a life that has been lived."""
        usual = flat(replace(STILL, members=(*STILL.members, ANOTHER)))
        # That there is another connection is told by its name.
        del usual["members.1.name"]
        settings = {name: v for name, v in flat(plan).items() if name not in usual or usual[name] != v}
        return cls(wrong, settings, dict(choices.made))

    def without(self, names: Collection[str]) -> "Story":
        """Return it with these settings and events as in a still life."""
        return self._of({name: value for name, value in self.all.items() if name not in names})

    def with_(self, name: str, value: Any) -> "Story":
        """Return it with another value of a setting or an event."""
        return self._of({**self.all, name: value})

    @property
    def all(self) -> dict[str, Any]:
        """Settings and events; no two have the same name."""
        return {**self.settings, **self.events}

    def _of(self, everything: Mapping[str, Any]) -> "Story":
        settings = {name: value for name, value in everything.items() if name in self.settings}
        events = {name: value for name, value in everything.items() if name in self.events}
        return Story(self.wrong, settings, events)

    @property
    def syncs(self) -> int:
        return sum(name.startswith("sync ") and name.removeprefix("sync ").isdigit() for name in self.events)

    @property
    def kind(self) -> str:
        """Which promise was broken: what went wrong, without the rows, runs and numbers that it befell."""
        if self.wrong.startswith("lost "):
            return "lost"
        return SEVERAL.sub("#", STREAM_NAMES.sub("rows", NUMBERED.sub("#", self.wrong)))

    def __str__(self) -> str:
        """Return it as Python, for a test file."""
        lines = [f"    wrong={_literal(self.wrong)},"]
        for part in ("settings", "events"):
            if values := getattr(self, part):
                inner = (f"        {_literal(name)}: {_literal(value)}," for name, value in values.items())
                lines += [f"    {part}={{", *inner, "    },"]
        return "\n".join(("Story(", *lines, ")"))

    @property
    def plan(self) -> Plan:
        tree: dict[str, Any] = {}
        for name, value in self.settings.items():
            *above, last = name.split(".")
            branch = tree
            for part in above:
                branch = branch.setdefault(part, {})
            branch[last] = value
        plan: Plan = _changed(STILL, tree)
        return plan


def flat(thing: Any, name: str = "") -> dict[str, Any]:
    """Return all values of a plan by their dotted names."""
    if is_dataclass(thing):
        parts = {each.name: getattr(thing, each.name) for each in fields(thing)}
    elif name == "members":
        parts = {str(number): member for number, member in enumerate(thing)}
    elif isinstance(thing, dict):
        parts = thing
    else:
        return {name: thing}
    prefix = f"{name}." if name else ""
    return {inner: v for part, value in parts.items() for inner, v in flat(value, prefix + part).items()}


def _changed(thing: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    if is_dataclass(thing) and not isinstance(thing, type):
        return replace(thing, **{name: _changed(getattr(thing, name), new) for name, new in changes.items()})
    if isinstance(thing, tuple):
        members = (*thing, ANOTHER) if "1" in changes else thing
        return tuple(_changed(member, changes.get(str(n), {})) for n, member in enumerate(members))
    return {**(thing or {}), **changes}


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, timedelta):
        parts = {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}
        return f"timedelta({', '.join(f'{name}={number}' for name, number in parts.items() if number) or 0})"
    return repr(value)

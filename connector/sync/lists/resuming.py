"""A sweep kept in the store between two runs, and taken up again."""

from dataclasses import fields, replace
from datetime import datetime
from json import dumps, loads
from typing import Any

from connector.beamer.pages import Habits, Order, Place
from connector.clock import SECOND
from connector.sync.lists.sweeps import Sweep


def dump(sweep: Sweep) -> str:
    place = _said(sweep.place)
    return dumps({**_said(sweep), "place": place}, default=datetime.isoformat)


def _said(state: Sweep | Place) -> dict[str, Any]:
    """What differs from how every one begins: most of it never does."""
    values = ((each.name, getattr(state, each.name), each.default) for each in fields(state))
    return {name: value for name, value, default in values if value != default}


def restore(text: str) -> Sweep:
    values: dict[str, Any] = {"low": None, **loads(text)}
    place = values.pop("place")
    for name in ("since", "until"):
        place[name] = _date(place.get(name))
    place["last"] = tuple(place.get("last", ()))
    for name in ("read_before", "opened"):
        values[name] = tuple(values.get(name, ()))
    for name in ("low", "newest", "waits", "reached", "begun", "since", "until"):
        values[name] = _date(values.get(name))
    return Sweep(place=Place(**place), **values)


def _date(said: str | None) -> datetime | None:
    return datetime.fromisoformat(said) if said else None


def resumed(sweep: Sweep, habits: Habits) -> Sweep:
    """Go on in a later run: rows have come and gone since, so pages have shifted, but dates have not."""
    place, by_date = sweep.place, sweep.by_date
    if place.page and not place.behind_short and sweep.reached:
        if habits.order is Order.NEWEST:
            place, by_date = Place(place.since, sweep.reached + SECOND), True
        elif habits.order is Order.OLDEST:
            place, by_date = Place(sweep.reached - SECOND, place.until), True
    return replace(sweep, place=place, by_date=by_date, resumed=True, read_before=sweep.place.last)

"""A sweep kept in the store between two runs, and taken up again."""

from dataclasses import asdict, replace
from datetime import datetime
from json import dumps, loads
from typing import Any

from connector.beamer.pages import Habits, Order, Place
from connector.clock import SECOND
from connector.sync.sweeps import Sweep


def dump(sweep: Sweep) -> str:
    return dumps(asdict(sweep), default=datetime.isoformat)


def restore(text: str) -> Sweep:
    values: dict[str, Any] = loads(text)
    place = values.pop("place")
    for name in ("since", "until"):
        place[name] = place[name] and datetime.fromisoformat(place[name])
    place["last"] = tuple(place["last"])
    for name in ("low", "newest", "waits", "reached"):
        values[name] = values[name] and datetime.fromisoformat(values[name])
    return Sweep(place=Place(**place), **values)


def resumed(sweep: Sweep, habits: Habits) -> Sweep:
    """Go on in a later run: rows have come and gone since, so pages have shifted, but dates have not."""
    place, by_date = sweep.place, sweep.by_date
    if place.page and not place.behind_short and sweep.reached:
        if habits.order is Order.NEWEST:
            place, by_date = Place(place.since, sweep.reached + SECOND), True
        elif habits.order is Order.OLDEST:
            place, by_date = Place(sweep.reached - SECOND, place.until), True
    return replace(sweep, place=place, by_date=by_date, resumed=True)

"""Where a reading of a list stands, and the query that asks for it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from connector.beamer.habits import Habits
from connector.clock import SECOND


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reading stands: the next request's window and page, and what the page before held.

    `page` is the number that is asked for; 0 is asked without one. `behind_short` marks a request that
    only looks behind a page that was not full. `again` counts how often the page before was shown again.
    """

    since: datetime | None = None
    until: datetime | None = None
    page: int = 0
    last: tuple[str, ...] = ()
    behind_short: bool = False
    empty: int = 0
    again: int = 0

    @classmethod
    def around(cls, since: datetime | None, until: datetime | None = None) -> "Place":
        """The first page of a range, asked a second wider: `dateFrom` and `dateTo` may be exclusive."""
        return cls(since and since - SECOND, until and until + SECOND)


def asked(place: Place, habits: Habits) -> Place:
    """A place kept from before it was known that page 1 is the first goes on behind it."""
    return replace(place, page=habits.second_page) if place.page == 1 else place


def params_of(place: Place, habits: Habits, cap: int) -> dict[str, str]:
    """The query parameters that ask for a place; `page` is left out for the first page."""
    params = {"maxResults": str(cap)}
    if place.since:
        params["dateFrom"] = iso(place.since)
    if place.until:
        params["dateTo"] = iso(place.until)
    if place.page:
        params["page"] = str(asked(place, habits).page)
    return params


def iso(moment: datetime) -> str:
    """A date as the reference writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

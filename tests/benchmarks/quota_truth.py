"""The generator's true rates, in the place of what the planner learns: nobody can know more."""

from datetime import datetime
from math import exp, expm1

from connector.beamer.streams import Stream
from connector.domain.state import ChildState, ParentState
from connector.sandbox.life import LN2, MEAN_POPULARITY, Curve
from connector.sandbox.world import World
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.estimates import AHEAD, NOTHING, Expected, expected

SECONDS = 3600
# The mean of a parent's appeal, and the share of new posts that are published at once or
# on their date; see connector/sandbox/life.py.
MEAN_APPEAL = exp(MEAN_POPULARITY)
PUBLISHED = {"posts": 0.94}


def arrivals(curve: Curve, since: float, until: float) -> Expected:
    """Rows expected between two ages in hours, and the hours they have waited at the later one."""
    start = max(0.0, since)
    span = until - start
    if span <= 0:
        return NOTHING
    k = LN2 / curve.half
    decayed = -expm1(-k * span) / k
    at_start = curve.peak * exp(-k * start)
    # Both are integrals from `start` to `until`: of the rate, and of the rate times what is left.
    rows = at_start * decayed + curve.floor * span
    row_hours = at_start * (span - decayed) / k + curve.floor * span * span / 2
    return expected(rows, row_hours)


class Truth:
    """What the world's own life is made from, as the planner asks for it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent = shares_sent(world)
        self._parents = {stream: world._by_id[stream] for stream in ("posts", "feature_requests")}

    def births(self, stream: Stream) -> float:
        return self._world.life.rates_per_day()[stream.name] / 24

    def weight(self, stream: Stream) -> float:
        return self._sent.get(stream.name, 1.0)

    def unseen(
        self,
        stream: Stream,
        parent: ParentState,
        child: ChildState,  # noqa: ARG002
        since: datetime,
    ) -> Expected:
        row = self._parents[stream.parent or ""][parent.id]
        now = self._world.now
        if row.starts_s >= now:
            return NOTHING
        until = (now - row.starts_s) / SECONDS
        begun = until - (now - since.timestamp()) / SECONDS
        return arrivals(self._world.life.curves[stream.name], begun, until).times(
            row.appeal, self.weight(stream)
        )

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:  # noqa: ARG002
        row = self._parents[stream.parent or ""][parent.id]
        age, hours = (self._world.now - row.starts_s) / SECONDS, AHEAD / HOUR
        if age + hours <= 0:
            return 0.0
        return row.appeal * self._world.life.curves[stream.name].total(max(0.0, age), age + hours) / hours

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        appeal = MEAN_APPEAL * self._world.company.activity * PUBLISHED.get(stream.parent or "", 1.0)
        return arrivals(self._world.life.curves[stream.name], since, until).times(appeal, self.weight(stream))


def shares_sent(world: World) -> dict[str, float]:
    """What share of each stream's rows is of a user with an id and not inside the team; see content.py."""
    users = world.life.people.users
    known = sum(user.get("userId") not in (None, "", "undefined") for user in users) / len(users)
    return {
        "comments": known,
        "reactions": known * (1 - world.company.visitors),
        "nps": known,
        "feature_requests": 0.25 + 0.75 * known,
        "feature_request_comments": 0.85 * known * 0.92,
        "feature_request_votes": known,
    }

"""What the settings say about one connection's rows, as the work needs it."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connector.segment.shaping import Naming, Privacy


@dataclass(frozen=True, slots=True)
class Policy:
    """`streams` are those that are sent; a parent list is read for its children's sake even if it is not.

    `weights`: how much the waiting of a stream's rows counts, 1 for each that is not named. `hint_share`
    of the requests may be sent for hints. `forgotten` holds the users whose rows are not sent any more.
    """

    streams: frozenset[str]
    start: datetime
    naming: Naming
    privacy: Privacy = field(default_factory=Privacy)
    lookback: timedelta = timedelta(hours=72)
    max_age: timedelta = timedelta(days=7)
    weights: Mapping[str, float] = field(default_factory=dict)
    hint_share: float = 0.5
    nps_settle: timedelta = timedelta(minutes=15)
    team_comments: bool = False
    metrics: bool = False
    ignore_filters: bool | None = None
    first_page: int | None = None
    sync_event: bool = False
    identify: bool = False
    forgotten: Container[object] = frozenset()

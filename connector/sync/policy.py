"""The settings for one connection's rows, as a run needs them."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connector.segment.shaping import Naming, Privacy


@dataclass(frozen=True, slots=True)
class Policy:
    """`streams` are sent; a parent list is read for its children even if it is not among them.

    `weights`: how much the delay of a stream's rows counts, 1 by default. At most `hint_share` of the
    requests is sent for hints. `forgotten` holds the users whose rows are not sent any more.
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

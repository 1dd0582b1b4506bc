"""What every run works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connector.beamer.catalogue import Stream
from connector.clock import Clock
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.ledger import Ledger
from connector.sync.planning.planner import Planner
from connector.sync.policy import Policy
from connector.sync.pool import Pool

if TYPE_CHECKING:
    # Looking at the store's figures puts parts together, too, and needs neither API's libraries.
    from connector.beamer.door import Beamer
    from connector.segment.door import Segment


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run works with, put together in one place."""

    catalogue: Mapping[str, Stream]
    identity: Identity
    policy: Policy
    store: Store
    beamer: "Beamer"
    segment: "Segment"
    ledger: Ledger
    clock: Clock
    pool: Pool
    most_waiting: int = 100_000
    most_bytes: int = 200_000_000
    planner: Planner | None = None

"""What a plan is made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from connector.beamer.catalogue import Stream, children
from connector.state.progress import Progress
from connector.sync.policy import Policy


@dataclass(frozen=True, slots=True)
class Picture:
    """What a plan is made from.

    `at_hand` requests may be spent at once and `per_day` come in; None without a limit. A run that may spend
    a few only has no more at hand.
    """

    catalogue: Mapping[str, Stream]
    policy: Policy
    progress: Progress
    first_page: int | None
    per_day: float | None = None
    at_hand: float | None = None

    def below(self, stream: Stream) -> tuple[Stream, ...]:
        """The child streams of a stream that are sent."""
        return tuple(
            child for child in children(self.catalogue, stream.name) if child.name in self.policy.streams
        )

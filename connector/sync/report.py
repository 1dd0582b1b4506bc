"""What a run did, counted while it goes on; the summary that every command ends with."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connector.errors import Forbidden
from connector.sync.lateness import Lateness


@dataclass(slots=True)
class Report:
    """Counts by stream; `audited` lists and counts, in which `missing` rows were found.

    `late` is how old new rows were, of those that came after the connection was made.
    `troubles` are sentences without personal text; `stopped` says why it ended early.
    """

    new: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    audited: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    late: Lateness = field(default_factory=Lateness)
    sent: int = 0
    refused: int = 0
    possible_doubles: int = 0
    waiting: int = 0
    forbidden: list[str] = field(default_factory=list)
    skipped_parents: int = 0
    troubles: list[str] = field(default_factory=list)
    stopped: str | None = None
    interrupted: bool = False
    saving: float = 0.0
    saving_since: datetime | None = None
    next_try: datetime | None = None
    segmented_hidden: bool = False

    @property
    def asked(self) -> int:
        return self.requests.total()

    @property
    def backlog(self) -> int:
        """How many messages wait while a run collects; `waiting` is how many did before."""
        return self.events.total() + self.waiting - self.sent - self.refused

    @property
    def incomplete(self) -> bool:
        """Something could not be read although it was asked for; a forbidden stream is another matter."""
        return any(not Forbidden.tells(trouble) for trouble in self.troubles)

    def count(self, stream: str, tally: Mapping[str, int]) -> None:
        """Add what one page did."""
        sums = {"rows": self.new, "events": self.events, "quarantined": self.quarantined}
        for what, count in tally.items():
            if what in sums:
                sums[what][stream] += count
            else:
                self.held[what] += count

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and for the store."""
        return {
            "rows_new": dict(self.new),
            "events": dict(self.events),
            "held_back": dict(self.held),
            "quarantined": dict(self.quarantined),
            "audited": dict(self.audited),
            "missing_found": dict(self.missing),
            "late": self.late.as_dict(),
            "sent": self.sent,
            "refused": self.refused,
            "possible_doubles": self.possible_doubles,
            "waiting": self.waiting,
            "requests": dict(self.requests),
            "requests_spent": self.asked,
            "forbidden": self.forbidden,
            "skipped_parents": self.skipped_parents,
            "segmented_posts_hidden": self.segmented_hidden,
            "troubles": self.troubles,
            "stopped": self.stopped,
            "saving": self.saving,
            "saving_since": self.saving_since.isoformat() if self.saving_since else None,
            "next_try": self.next_try.isoformat() if self.next_try else None,
        }

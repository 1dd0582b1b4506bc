"""Changes of a row follow each other without a gap: its statuses, its totals."""

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.simulation.wrong import Wrong

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.universe import Universe

KIND = {"Feature Request Status Changed": "status", "Post Metrics Updated": "metrics"}
PAIRS = (("views", "views_change"), ("unique_views", "unique_views_change"), ("clicks", "clicks_change"))


def judge_chains(universe: "Universe", judge: "Judge") -> None:
    """Every chain of changes that Segment holds."""
    for (name, event, of), messages in judge.changes.items():
        if event not in KIND:
            continue
        wanted = re.compile(rf"bmr1-\w+-acct-{KIND[event]}-0-{of}-(\d+)").fullmatch
        chain: dict[int, dict[str, Any]] = {}
        for message in messages:
            numbered = wanted(message["messageId"])
            if numbered is None:
                raise Wrong(f"{event} {of} has the messageId {message['messageId']}")
            if message.get("anonymousId") != f"beamer-{name}" or message.get("userId"):
                raise Wrong(f"{event} {of} goes under {message.get('userId')}")
            chain[int(numbered[1])] = message
        if of in judge.renumbered or any(wanted(message_id) for message_id in universe.dropped):
            continue
        if sorted(chain) != list(range(1, len(chain) + 1)):
            raise Wrong(f"{event} {of}: changes {sorted(chain)} have a gap")
        ordered = [chain[number]["properties"] for number in sorted(chain)]
        wrong = _statuses(ordered) if KIND[event] == "status" else _totals([chain[n] for n in sorted(chain)])
        if wrong:
            raise Wrong(f"{event} {of}: {wrong}")


def _statuses(changes: list[dict[str, Any]]) -> str | None:
    for change in changes:
        if change["previous_status"] == change["status"]:
            return "no change at all"
    for before, after in pairwise(changes):
        if after["previous_status"] != before["status"]:
            return f"{after['previous_status']} follows {before['status']}"
    return None


def _totals(messages: list[dict[str, Any]]) -> str | None:
    days = Counter(message["timestamp"][:10] for message in messages)
    if days and max(days.values()) > 1:
        return "twice on one day"
    changes = [message["properties"] for message in messages]
    for before, after in pairwise(changes):
        for total, change in PAIRS:
            if after[total] - after[change] != before[total]:
                return f"{total} went from {before[total]} by {after[change]} to {after[total]}"
    return None

"""What a person should hear of once, though the run that found it ended well."""

from collections.abc import Mapping
from datetime import datetime

from connector.service.summary import WHY_HELD
from connector.state import mentions, outbox, progress, views
from connector.state.engine import Store


def told(store: Store, connection: str, now: datetime) -> list[str]:
    """A sentence for each thing that was not spoken of before; it will not be again while it lasts."""
    found = _found(store, connection)
    fresh = mentions.unmentioned(store, connection, found.keys())
    if fresh:
        mentions.mention(store, connection, fresh, now)
    return [found[what] for what in found if what in fresh]


def _found(store: Store, connection: str) -> Mapping[str, str]:
    """By what it is, the sentence."""
    found: dict[str, str] = {}
    if bad := views.quarantined(store, connection):
        counts = ", ".join(f"{stream} {sum(reasons.values()):,}" for stream, reasons in bad.items())
        found["quarantine"] = f"rows in quarantine: {counts}; `beamer-segment status` shows them"
    sums = views.sums(store, connection).values()
    for why, reason in WHY_HELD.items():
        if count := sum(each.get(why, 0) for each in sums):
            found[f"held {why}"] = f"held back: {count:,} – {reason}"
    if dead := views.outbox_sizes(store, connection).get(outbox.DEAD, 0):
        found["dead letters"] = f"refused by Segment: {dead:,} – see `beamer-segment outbox list --dead`"
    for name, state in progress.peek(store, connection, lists=False).streams.items():
        if state.distrusted:
            found[f"distrust {name}"] = f"{name}: counters not trusted; lists are read without them"
        if state.trouble:
            found[f"trouble {name}"] = f"not read: {name}: {state.trouble}"
    return found

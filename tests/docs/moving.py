"""The comparison with Beamer's own source in docs/how-to/moving.md, made from the catalogue.

What Beamer's own source sends is copied from its documentation (segment-beamer-source, of 2022-04-25).
"""

from collections.abc import Iterator, Mapping

from connector.segment.events import EVENTS

THEIRS: Mapping[str, tuple[str, ...]] = {
    "Post Viewed": ("post", "language", "origin"),
    "Link Clicked": ("post", "language", "url"),
    "Push Notification Clicked": ("post", "language", "url"),
    "Post Commented": ("post", "comment"),
    "Post Reacted To": ("post", "reaction"),
    "NPS Response Sent": ("score", "comment"),
}
INSTEAD = {
    "Post Viewed": "no; the post's totals `views` and `unique_views` in Post Metrics Updated",
    "Link Clicked": "no; the post's total `clicks` in Post Metrics Updated",
    "Push Notification Clicked": "no",
}

Cells = tuple[str, ...]
HEAD: Cells = ("event", "property", "Beamer's own source", "this connector")


def compared() -> Iterator[Cells]:
    """Every property that either of the two sends, Beamer's own events first."""
    # What the connector says of itself has nothing to be compared with.
    ours = {
        event.name: [p.name for p in event.properties] for event in EVENTS.values() if event.stream != "none"
    }
    for name in dict.fromkeys([*THEIRS, *ours]):
        theirs = THEIRS.get(name, ())
        for prop in dict.fromkeys([*theirs, *ours.get(name, [])]):
            kept = "the same" if prop in theirs else "new"
            here = kept if prop in ours.get(name, []) else INSTEAD[name]
            yield (f"**{name}**", f"`{prop}`", "yes" if prop in theirs else "–", here)

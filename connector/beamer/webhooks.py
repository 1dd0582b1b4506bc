"""Read the body of one of Beamer's webhooks into hints: bounded, and nothing in it counts as a fact."""

import json
import re
from typing import Any

from connector.beamer.rows import Unreadable, row_id
from connector.beamer.streams import CATALOGUE
from connector.domain.hints import NewHint, title_digest

MOST_BYTES = 1_048_576
MOST_EVENTS = 1_000
# The address of a comment or a reaction may hold the row's id.
_ROW_IN_URL = re.compile(r"[?&]id=([0-9A-Za-z_-]{1,64})(?=$|[&#])")
_LONGEST_URL = 2_000


class Malformed(ValueError):
    """Raised for a body that is not a list of events."""


class TooLarge(Malformed):
    """Raised for a body with too many bytes or events."""


def hints_of(body: bytes) -> list[NewHint]:
    """Return one hint for each event whose kind is known; raises Malformed or TooLarge."""
    if len(body) > MOST_BYTES:
        raise TooLarge
    try:
        events = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed from None
    if not isinstance(events, list):
        raise Malformed
    if len(events) > MOST_EVENTS:
        raise TooLarge
    return [hint for event in events if isinstance(event, dict) and (hint := _hint_of(event))]


def _hint_of(event: dict[str, Any]) -> NewHint | None:
    """Return the hint of an event; only its fields show its kind."""
    if "score" in event:
        return NewHint("nps")
    if "postTitle" in event:
        stream, title = "reactions" if "reaction" in event else "comments", event["postTitle"]
        digest = title_digest(title) if isinstance(title, str) and title.strip() else ""
        return hint_for(stream, title=digest, row=_row_of(event.get("url")))
    if "id" in event and ("title" in event or "postUrl" in event):
        return hint_for("posts", row=_id_of(event["id"]))
    return None


def hint_for(stream: str, *, parent: str = "", title: str = "", row: str = "") -> NewHint:
    """Return a hint of a stream of the catalogue."""
    return NewHint(stream, CATALOGUE[stream].parent or "", parent, title, row)


def _row_of(url: object) -> str:
    match = _ROW_IN_URL.search(url[:_LONGEST_URL]) if isinstance(url, str) else None
    return match[1] if match else ""


def _id_of(value: object) -> str:
    try:
        return row_id(value)
    except Unreadable:
        return ""

"""`explain`: what became of one row."""

from typing import Any

from connector.output import say
from connector.service.story import never_seen, stories_of
from connector.state.engine import Store


def explain_row(
    store: Store | None, connection: str | None, word: str, *, text: bool
) -> list[dict[str, Any]]:
    """Tell the story of each row that the word may mean."""
    found = stories_of(store, connection, word) if store else []
    if text:
        for story in found:
            first, *rest = story.told
            say(first)
            for line in rest:
                say(f"  {line}")
        for line in () if found else never_seen(word):
            say(line)
    return [dict(story.data) for story in found]

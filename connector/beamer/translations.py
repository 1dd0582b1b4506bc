"""What a post or a feature request says in its first translation."""

from collections.abc import Mapping
from typing import Any

from connector.beamer.rows import Unreadable


def _all(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise Unreadable("not a list")
    return [each for each in value if isinstance(each, dict)]


def _first(value: Any, name: str) -> str | None:
    for translation in _all(value):
        found = translation.get(name)
        return found if isinstance(found, str) and found else None
    return None


def title(value: Any) -> str | None:
    return _first(value, "title")


def link_url(value: Any) -> str | None:
    return _first(value, "linkUrl")


def permalink(value: Any) -> str | None:
    return _first(value, "permalink")


def languages(value: Any) -> list[str]:
    """The language codes as Beamer writes them, in its order."""
    return [each["language"] for each in _all(value) if isinstance(each.get("language"), str)]

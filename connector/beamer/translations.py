"""What a post or a feature request says in its first translation."""

from collections.abc import Mapping
from typing import Any

from connector.beamer.values import Unreadable, storable


def _all(value: Any) -> list[Mapping[str, Any]]:
    # The reference's schema names one translation, its examples show a list of them.
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise Unreadable("not a list")
    return [each for each in items if isinstance(each, dict)]


def _first(value: Any, name: str) -> str | None:
    found = next(iter(_all(value)), {}).get(name)
    return storable(found) if isinstance(found, str) and found else None


def title(value: Any) -> str | None:
    return _first(value, "title")


def link_url(value: Any) -> str | None:
    return _first(value, "linkUrl")


def permalink(value: Any) -> str | None:
    return _first(value, "permalink")


def languages(value: Any) -> list[str]:
    """The language codes as Beamer writes them, in its order."""
    return [storable(each["language"]) for each in _all(value) if isinstance(each.get("language"), str)]

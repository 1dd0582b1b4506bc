"""Query parameters: which exist, what they must look like, which plan they need."""

from collections.abc import Mapping
from datetime import UTC, datetime

Kinds = Mapping[str, str]

DATES: Kinds = {"dateFrom": "date", "dateTo": "date"}
PAGES: Kinds = {"maxResults": "size", "page": "page"}
VIEWER: Kinds = {"userFirstName": "text", "userLastName": "text", "userEmail": "text", "userId": "text"}
SEGMENTS: Kinds = {"filter": "text:pro", "forceFilter": "text:pro", "filterUrl": "text:pro"}
POSTS: Kinds = {
    **SEGMENTS,
    **DATES,
    "category": "text",
    "published": "boolean",
    "archived": "boolean",
    "filterByUserId": "boolean:scale",
    "ignoreFilters": "boolean",
}
SCORES: Kinds = {"scoreFrom": "integer", "scoreTo": "integer", "search": "text"}


class BadParameter(Exception):
    """A parameter that the reference does not allow, with the answer's status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def check(kind: str, name: str, value: str) -> None:
    """Refuse a value that is not of its kind."""
    if kind == "date":
        date(name, value)
    elif kind == "boolean" and value.lower() not in ("true", "false"):
        raise BadParameter(400, f"The parameter {name} must be a boolean.")
    elif kind in ("integer", "size", "page"):
        _integer(name, value, {"size": 1, "page": 0}.get(kind))


def _integer(name: str, value: str, least: int | None) -> None:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (least is not None and int(value) < least):
        raise BadParameter(400, f"The parameter {name} is not valid.")


def date(name: str, value: str) -> float:
    """An ISO-8601 date as epoch seconds."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise BadParameter(400, f"The parameter {name} must follow the ISO-8601 format.") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def is_true(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() == "true"

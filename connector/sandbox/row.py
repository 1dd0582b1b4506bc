"""One row of the account: when it appeared, when it says it happened, when it went."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

STREAMS = (
    "posts",
    "comments",
    "reactions",
    "nps",
    "feature_requests",
    "feature_request_comments",
    "feature_request_votes",
)
Fields = dict[str, Any]
HOUR = 3_600
DAY = 86_400


def moment(seconds: float) -> datetime:
    """Epoch seconds as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds(at: datetime | str) -> int:
    """An aware time or an ISO-8601 text as whole epoch seconds."""
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def iso(at: float) -> str:
    """Epoch seconds as Beamer writes dates."""
    return moment(at).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True, eq=False)
class Row:
    """Times ending in `_s` are epoch seconds; the content is written when somebody first looks."""

    stream: str
    seq: int
    date_s: int
    appears_s: int
    write: Callable[["Row"], Fields]
    parent: "Row | None" = None
    id: str = ""
    given: Fields = field(default_factory=dict)
    deleted_s: int | None = None
    hidden: bool = False
    text_s: int = 0
    appeal: float = 0.0
    starts_s: float = 0.0
    reads: int = 0
    version: int = 0
    cache: tuple[Any, bytes] | None = None
    content: Fields | None = None

    @property
    def fields(self) -> Fields:
        """The row's own fields in the API's names, without id, date and counters."""
        if self.content is None:
            self.content = {**self.write(self), **self.given}
        return self.content

    @property
    def title(self) -> str:
        """The title of the first translation; empty for rows without translations."""
        translations: list[Fields] = self.fields.get("translations") or [{}]
        return str(translations[0].get("title", ""))

    @property
    def parent_id(self) -> str | None:
        return self.parent.id if self.parent else None

    @property
    def date(self) -> datetime:
        return moment(self.date_s)

    @property
    def appears(self) -> datetime:
        return moment(self.appears_s)

    @property
    def deleted_at(self) -> datetime | None:
        return None if self.deleted_s is None else moment(self.deleted_s)

    def change(self, fields: Fields) -> None:
        """Write fields over the present ones."""
        self.fields.update(fields)
        self.version += 1

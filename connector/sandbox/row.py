"""One row of the account: its dates, its fields, and how dates are written."""

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
    """Return epoch seconds as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds(date: datetime | str) -> int:
    """Return a time, or a text in ISO 8601, as whole epoch seconds; UTC if it has no time zone."""
    time = datetime.fromisoformat(date) if isinstance(date, str) else date
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def iso(seconds: float) -> str:
    """Return epoch seconds in the format of Beamer's dates."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True, eq=False)
class Row:
    """A row of any stream; its fields are generated when they are first read.

    Names that end in `_s` are times in epoch seconds.
    """

    stream: str
    seq: int
    """Orders rows of the same date."""
    date_s: int
    """The date that the API shows."""
    appears_s: int
    """When the API shows the row first; later than its date if the row is late."""
    write: Callable[["Row"], Fields]
    parent: "Row | None" = None
    id: str = ""
    overrides: Fields = field(default_factory=dict)
    """Fields that replace the generated ones."""
    deleted_s: int | None = None
    hidden: bool = False
    text_s: int = 0
    """When an NPS response gets its text."""
    appeal: float = 0.0
    """How many children this parent gets, as a factor."""
    starts_s: float = 0.0
    """When this parent gets its first children."""
    reads: int = 0
    """Views by requests without `saveViews=false`."""
    version: int = 0
    """Changes with the fields, so that `cache` is not used any more."""
    cache: tuple[Any, bytes] | None = None
    content: Fields | None = None

    @property
    def fields(self) -> Fields:
        """The fields as the API names them, without id, date and counters."""
        if self.content is None:
            self.content = {**self.write(self), **self.overrides}
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
        """Change these fields."""
        self.fields.update(fields)
        self.version += 1

"""One request to Beamer and its answer, as plain data.

They lie apart from the client: planning uses them, and must not load an HTTP library; nor must commands
that only look at the database, such as `status`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class BeamerRequest:
    """One GET: a path below the API's base, and its query."""

    path: str
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Parsed JSON, and what Beamer's clock said (its Date header), if it said anything."""

    body: Any = field(repr=False)
    date: datetime | None

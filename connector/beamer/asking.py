"""What is asked of Beamer and what comes back, for those that plan and judge and send nothing themselves."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Ask:
    """One GET: a path below the API's base, and its query."""

    path: str
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Parsed JSON, and what Beamer's clock said (its Date header), if it said anything."""

    body: Any = field(repr=False)
    date: datetime | None

"""What shaping is told about a row: plain data, with nothing of Beamer's spelling left in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened in Beamer: a row that is new, or a change of one already known.

    `date` is aware UTC: the row's own date, or for a change the moment it was seen.
    `fields` holds canonical names (see `events`); an unknown one may be None or absent.
    """

    kind: str
    id: str
    parent: str  # "0" where there is none
    date: datetime
    fields: Mapping[str, Any]
    change: int = 0  # n for the n-th change of a row

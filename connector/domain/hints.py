"""Hints: what a webhook says of where something is new. The row itself is read from the API."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

# In the place of a parent's id: a list without parents, or the newest block of parents.
ANYWHERE = "0"


@dataclass(frozen=True, slots=True)
class NewHint:
    """Something is new in a stream; every field but the first may be empty.

    `parents` is the stream of its parents. The parent is known by its id, or by its title's digest, which
    several may share. `row`: the new row's id.
    """

    stream: str
    parents: str = ""
    parent: str = ""
    title: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class Hint:
    """How many new rows hints have announced at a list, and since when the first can be read.

    It was not read since then; where a row of it was not settled, `since` lies in the future.
    """

    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class ReadHint:
    """A hint whose list was read: `count` of its rows were announced, and `confirmed` of them were new.

    `left` of them still wait, because a row will be settled only `after` so long.
    """

    stream: str
    parent: str
    count: int
    confirmed: int
    left: int = 0
    after: timedelta = timedelta(0)


# By stream and parent's id.
Hints = Mapping[str, Mapping[str, Hint]]


def title_digest(title: str) -> str:
    """Return what a post is recognised by when a webhook names its title."""
    return hashlib.sha256(" ".join(title.split()).encode("utf-8", "replace")).hexdigest()[:16]

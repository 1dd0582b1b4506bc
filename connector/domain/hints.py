"""Hints: a webhook's announcement that a list has new rows. The rows are read from the API."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

# Replaces a parent's id: a list without parents, or the newest block of parents.
ANYWHERE = "0"


@dataclass(frozen=True, slots=True)
class NewHint:
    """An announced new row of a stream; every field but the first may be empty.

    `parents` is the stream of its parents. The parent is identified by its id, or by its title's digest,
    which several may share. `row`: the new row's id.
    """

    stream: str
    parents: str = ""
    parent: str = ""
    title: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class Hint:
    """How many new rows hints have announced at a list, and since when the first can be read.

    The list was not read since then; if one of its rows was not settled, `since` is in the future.
    """

    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class ReadHint:
    """A hint whose list was read: `count` rows were announced, and `confirmed` of them were new.

    `left` of them still wait, because a row will be settled only `after` some time.
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
    """Return the digest by which a post is recognised when a webhook names its title."""
    return hashlib.sha256(" ".join(title.split()).encode("utf-8", "replace")).hexdigest()[:16]

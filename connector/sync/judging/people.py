"""Whose a row is, and whether that person is to be forgotten."""

from typing import Any

from connector.beamer.catalogue import USER
from connector.beamer.rows import Row, Unreadable
from connector.segment.identity import user_id
from connector.sync.policy import Policy


def is_forgotten(row: Row, policy: Policy) -> bool:
    """Whether the row's user is one of those whose rows are not sent any more."""
    return user_id(row.fields.get("user_id")) in policy.forgotten


def user_of_raw(raw: Any) -> str | None:
    """The user of a row that may be unusable otherwise."""
    if not isinstance(raw, dict):
        return None
    try:
        return user_id(USER["user_id"].read(raw))
    except Unreadable:
        return None

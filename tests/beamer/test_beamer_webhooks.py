"""What a webhook's body says: the vendor's shapes, and whatever else somebody may send."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.beamer.streams import CATALOGUE
from connector.beamer.webhooks import MOST_BYTES, MOST_EVENTS, Malformed, TooLarge, hints_of
from connector.domain.hints import NewHint, title_digest
from connector.sandbox import START, Company
from connector.sandbox.webhooks import KINDS, event_of
from connector.sandbox.world import World

TITLE = title_digest("Dark mode")
COMMENT = {"date": "2026-03-01T00:00:00Z", "text": "Nice", "postTitle": "Dark mode", "userId": "u-1"}
REACTION = {"date": "2026-03-01T00:00:00Z", "reaction": "positive", "postTitle": "Dark mode"}


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        (COMMENT, NewHint("comments", "posts", title=TITLE)),
        (
            {**COMMENT, "url": "https://a.example/inbox#comment?id=1234"},
            NewHint("comments", "posts", title=TITLE, row="1234"),
        ),
        (
            {**COMMENT, "url": "https://a.example/x?id=1234&y=2"},
            NewHint("comments", "posts", title=TITLE, row="1234"),
        ),
        ({**COMMENT, "url": "https://a.example/?id=../1"}, NewHint("comments", "posts", title=TITLE)),
        ({**COMMENT, "url": 7, "postTitle": " Dark \n mode "}, NewHint("comments", "posts", title=TITLE)),
        ({**COMMENT, "postTitle": None}, NewHint("comments", "posts")),
        ({**COMMENT, "postTitle": ["Dark mode"]}, NewHint("comments", "posts")),
        (REACTION, NewHint("reactions", "posts", title=TITLE)),
        ({"date": "2026-03-01T00:00:00Z", "score": 9, "feedback": "Fine"}, NewHint("nps")),
        ({"id": 45, "title": "Dark mode", "postUrl": "https://a.example"}, NewHint("posts", row="45")),
        ({"id": "45", "title": "Dark mode"}, NewHint("posts", row="45")),
        ({"id": {"a": 1}, "title": "Dark mode"}, NewHint("posts")),
        ({"id": "45"}, None),
        ({}, None),
        ("text", None),
        ([COMMENT], None),
        (None, None),
    ],
)
def test_what_an_event_says(event: Any, hint: NewHint | None) -> None:
    assert hints_of(json.dumps([event]).encode()) == ([hint] if hint else [])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"null", b"7", b"[", b"\xff\xfe", b'"[]"', json.dumps(COMMENT).encode()),
        b"[" * 500_000,
        b'[{"postTitle": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b"[" + b"9" * 10_000 + b"]",
    ],
)
def test_what_is_no_list_of_events(body: bytes) -> None:
    with pytest.raises(Malformed):
        hints_of(body)


def test_too_much_at_once() -> None:
    assert len(hints_of(json.dumps([COMMENT] * MOST_EVENTS).encode())) == MOST_EVENTS
    for body in (json.dumps([{}] * (MOST_EVENTS + 1)).encode(), b" " * (MOST_BYTES + 1)):
        with pytest.raises(TooLarge):
            hints_of(body)


def test_the_sandbox_sends_what_is_understood() -> None:
    """Every row of a stream that has webhooks, and with its id where the event holds one."""
    world = World(Company(seed=3, posts=12), START)
    for stream in KINDS:
        rows = list(world._by_id[stream].values())
        assert rows
        for row in rows:
            (hint,) = hints_of(json.dumps([event_of(row)]).encode())
            assert (hint.stream, hint.row) == (stream, "" if stream == "nps" else row.id)
            if row.parent:
                assert hint.title == title_digest(row.parent.title)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from(["postTitle", "reaction", "url", "score", "id", "title", "text", "date"]), JSON
)


@given(st.lists(FIELDS | JSON, max_size=6) | JSON)
def test_any_body_gives_hints_or_is_malformed(value: Any) -> None:
    try:
        found = hints_of(json.dumps(value).encode())
    except Malformed:
        assert not isinstance(value, list)
        return
    for hint in found:
        assert CATALOGUE[hint.stream].parent == (hint.parents or None)
        assert len(hint.row) <= 64
        assert hint.row.replace("-", "").replace("_", "").isalnum() or not hint.row


@given(st.binary(max_size=200))
def test_any_bytes_give_hints_or_are_malformed(body: bytes) -> None:
    try:
        hints_of(body)
    except Malformed:
        return

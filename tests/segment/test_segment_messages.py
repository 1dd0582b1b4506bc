import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import __version__
from connector.segment.messages import MOST_OF_ONE, Message, Unshapeable, build, shortened_to
from connector.segment.shaping import Fact, Naming, Privacy, shape

DATE = datetime(2018, 12, 31, 1, 2, 3, tzinfo=UTC)
EVERYTHING = Privacy(traits="all", trait_attributes=("a",))


def built(kind: str = "comment", privacy: Privacy | None = None, **fields: Any) -> Message:
    fact = Fact(kind, "1234", "7", DATE, {"user_id": "42"} | fields)
    return build(shape(fact, Naming("dest", "acct", "default"), privacy or Privacy(), DATE))


def test_a_golden_message() -> None:
    message = built(title="News", text="Süß 😀")
    content = json.loads(message.text)
    library = content["context"].pop("library")
    assert library["name"] == "analytics-python"
    assert content == {
        "type": "track",
        "event": "Post Commented",
        "userId": "42",
        "anonymousId": None,
        "messageId": "bmr1-dest-acct-comment-7-1234",
        "timestamp": "2018-12-31T01:02:03.000+00:00",
        "properties": {"post": "News", "comment": "Süß 😀", "post_id": "7", "comment_id": "1234"},
        "context": {"integration": {"name": "beamer-segment", "version": __version__}},
        "integrations": {},
    }
    assert message.message_id == content["messageId"]


def test_the_size_is_that_of_the_bytes_sent() -> None:
    message = built(text="😀")
    assert r"\ud83d\ude00" in message.text
    assert message.size == len(json.dumps(json.loads(message.text)).encode())


def test_building_leaves_the_shaped_event_alone() -> None:
    shaped = shape(Fact("vote", "1", "2", DATE, {"user_id": "42"}), Naming("d", "a", "c"), Privacy(), DATE)
    assert build(shaped) == build(shaped)
    assert "library" not in shaped.body["context"]


@pytest.mark.parametrize("char", ["x", "é", "😀", '"', "\\", "\x07"])
def test_a_long_text_is_shortened_to_the_limit(char: str) -> None:
    message = built(title="News", text=char * 40_000)
    properties = json.loads(message.text)["properties"]
    assert properties["truncated"] is True
    assert properties["post"] == "News"
    assert set(properties["comment"]) == {char}
    assert MOST_OF_ONE - 400 < message.size <= MOST_OF_ONE


def test_the_longest_text_is_shortened_first() -> None:
    properties = json.loads(built(title="t" * 25_000, text="c" * 26_000).text)["properties"]
    assert len(properties["post"]) == 25_000
    assert 0 < len(properties["comment"]) < 26_000


def test_of_two_long_texts_neither_vanishes() -> None:
    message = built(title="é" * 40_000, text="😀" * 40_000)
    properties = json.loads(message.text)["properties"]
    assert properties["truncated"] is True
    assert min(len(json.dumps(properties[name])) for name in ("post", "comment")) > 900
    assert MOST_OF_ONE - 400 < message.size <= MOST_OF_ONE


def test_a_text_just_within_the_limit_stays_whole() -> None:
    room = MOST_OF_ONE - built(text="c").size - 300
    properties = json.loads(built(text="c" * room).text)["properties"]
    assert properties["comment"] == "c" * room
    assert "truncated" not in properties


def test_traits_that_fill_the_message_are_dropped_and_the_text_kept() -> None:
    content = json.loads(built(text="Hi", attributes={"a": "x" * 50_000}, privacy=EVERYTHING).text)
    assert "traits" not in content["context"]
    assert content["properties"]["comment"] == "Hi"
    assert content["properties"]["truncated"] is True


def test_traits_stay_where_only_the_text_is_long() -> None:
    content = json.loads(built(text="c" * 50_000, attributes={"a": "x"}, privacy=EVERYTHING).text)
    assert content["context"]["traits"] == {"a": "x"}


@pytest.mark.parametrize("text", [None, "personal words", "personal " * 9_000])
def test_what_cannot_fit_is_unshapeable_and_says_nothing_personal(text: str | None) -> None:
    with pytest.raises(Unshapeable) as caught:
        built(user_id="jane" * 10_000, text=text)
    assert "32 KB" in caught.value.reason
    assert "personal" not in str(caught.value)
    assert "jane" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\x00b", "ab"),
        ("a\ud83db", "a\ufffdb"),
        (" \u202eabc", " \u202eabc"),
        (7, "7"),
    ],
)
def test_odd_text_becomes_good_json(given: Any, expected: str) -> None:
    assert json.loads(built(text=given).text)["properties"]["comment"] == expected


def test_odd_attributes_become_good_json() -> None:
    deep: Any = "bottom"
    for _ in range(400):
        deep = [deep]
    odd = {"n": float("nan"), "deep": deep, "k\x00": [1, "\ud800", None, True], "big": 10**5000, "set": {1}}
    content = json.loads(built(attributes={"a": odd}, privacy=EVERYTHING).text)
    kept = content["context"]["traits"]["a"]
    assert (kept["n"], kept["big"], kept["set"], kept["k"]) == (None, None, None, [1, "\ufffd", None, True])


@given(st.text(max_size=60), st.integers(0, 200))
def test_cut_takes_the_longest_beginning(text: str, room: int) -> None:
    short = shortened_to(text, room)
    assert text.startswith(short)
    assert len(json.dumps(short)) - 2 <= room
    assert short == text or len(json.dumps(text[: len(short) + 1])) - 2 > room


@given(
    st.text(min_size=1, max_size=20),
    st.integers(1, 9_000),
    st.text(min_size=1, max_size=20),
    st.integers(1, 9_000),
)
def test_whatever_was_written_fits(text: str, many: int, title: str, times: int) -> None:
    message = built(text=text * many, title=title * times)
    assert message.size <= MOST_OF_ONE
    assert json.loads(message.text)["properties"]["comment_id"] == "1234"

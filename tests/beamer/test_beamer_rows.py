"""Any JSON where a row is expected becomes a row or the reason why it is none."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.beamer.rows import (
    InvalidRow,
    Row,
    Unreadable,
    flag,
    integer,
    mapping,
    moment,
    parse,
    row_id,
    text,
)
from connector.beamer.streams import CATALOGUE
from tests.beamer.examples import EXAMPLES

PRIVATE = "jane.doe@example.com said so"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**30, 10**40)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
    | st.text(st.characters(categories=["Cs", "Cc"]), max_size=4)
    | st.sampled_from(
        ["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "true"]
    )
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)
NAMES = sorted({name for raw in EXAMPLES.values() for name in raw})
rows = st.dictionaries(st.sampled_from(NAMES), anything, max_size=8)


@settings(deadline=None)
@given(raw=anything | rows, stream=st.sampled_from(sorted(CATALOGUE)))
def test_any_json_is_a_row_or_unusable(raw: Any, stream: str) -> None:
    _check(raw, stream)


@settings(deadline=None)
@given(change=st.tuples(st.sampled_from(NAMES), anything), stream=st.sampled_from(sorted(CATALOGUE)))
def test_one_odd_value_in_a_good_row_never_crashes(change: tuple[str, Any], stream: str) -> None:
    _check({**EXAMPLES[stream], change[0]: change[1]}, stream)


def _check(raw: Any, stream: str) -> None:
    parsed = parse(raw, CATALOGUE[stream].fields)
    if isinstance(parsed, InvalidRow):
        assert parsed.raw == raw or raw != raw or parsed.raw is None or str(raw) == str(parsed.raw)
        return
    assert parsed.id.isascii()
    assert parsed.date.tzinfo is UTC
    assert parsed.date.microsecond == 0
    assert set(parsed.fields) == set(CATALOGUE[stream].fields)
    for value in parsed.fields.values():
        if isinstance(value, str):
            assert "\x00" not in value.encode().decode()


@pytest.mark.parametrize("stream", CATALOGUE)
def test_a_row_nested_deeper_than_any_is_unusable_but_known_by_its_id(stream: str) -> None:
    deep: Any = "leaf"
    for _ in range(900):
        deep = {"in": [deep]}
    raw = {**EXAMPLES[stream], "userCustomAttributes": deep}
    found = parse(raw, CATALOGUE[stream].fields)
    assert found == InvalidRow("the row is nested too deeply", EXAMPLES[stream]["id"], None)
    assert parse(deep, CATALOGUE[stream].fields) == InvalidRow("the row has no valid id", None, None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "the row is not an object"),
        ([1], "the row is not an object"),
        ("row", "the row is not an object"),
        ({}, "the row has no valid id"),
        ({"id": None}, "the row has no valid id"),
        ({"id": True}, "the row has no valid id"),
        ({"id": 1.5}, "the row has no valid id"),
        ({"id": ""}, "the row has no valid id"),
        ({"id": "1\x002"}, "the row has no valid id"),
        ({"id": "../users"}, "the row has no valid id"),
        ({"id": "1?saveViews=true"}, "the row has no valid id"),
        ({"id": "1%2f2"}, "the row has no valid id"),
        ({"id": "9" * 65}, "the row has no valid id"),
        pytest.param({"id": 10**5000}, "the row has no valid id", id="endless id"),
        ({"id": "1"}, "date is missing"),
        ({"id": "1", "date": None}, "date is missing"),
        ({"id": "1", "date": PRIVATE}, "date is not a date"),
        ({"id": "1", "date": 1546214400000}, "date is not a date"),
        ({"id": "1", "date": "0001-01-01T00:00:00Z"}, "date is a date out of range"),
        ({"id": "1", "date": "9999-12-31T23:59:59Z"}, "date is a date out of range"),
        ({"id": "1", "date": "0001-01-01T00:00:00+14:00"}, "date is not a date"),
        ({"id": "1", "date": "2026-01-01", "score": PRIVATE}, "score is not a number"),
        ({"id": "1", "date": "2026-01-01", "feedback": [PRIVATE]}, "feedback is not text"),
        ({"id": "1", "date": "2026-01-01", "userId": {"a": PRIVATE}}, "userId is not text"),
    ],
)
def test_why_a_row_cannot_be_used(raw: Any, reason: str) -> None:
    found = parse(raw, CATALOGUE["nps"].fields)
    assert isinstance(found, InvalidRow)
    assert found.reason == reason


def test_neither_form_of_a_row_shows_its_content() -> None:
    raw = {"id": "1", "date": "2026-01-01", "feedback": PRIVATE, "score": 1}
    for each in (parse(raw, CATALOGUE["nps"].fields), parse({**raw, "score": []}, CATALOGUE["nps"].fields)):
        assert PRIVATE not in repr(each)


def test_an_optional_value_that_cannot_be_read_is_none() -> None:
    row = parse(
        {**EXAMPLES["posts"], "views": "many", "translations": 7, "pinned": []}, CATALOGUE["posts"].fields
    )
    assert isinstance(row, Row)
    assert [row.fields[name] for name in ("views", "title", "languages", "pinned")] == [None] * 4


def test_a_title_is_that_of_the_first_translation() -> None:
    translations = [None, "x", {"title": "Erster", "language": "DE"}, {"title": "First", "language": "EN"}]
    row = parse({**EXAMPLES["posts"], "translations": translations}, CATALOGUE["posts"].fields)
    assert isinstance(row, Row)
    assert (row.fields["title"], row.fields["languages"]) == ("Erster", ["DE", "EN"])


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://a.test/", "https://a.test/"),
        (["https://a.test/"], "https://a.test/"),
        (["", None, "https://a.test/", "https://b.test/"], "https://a.test/"),
        ([], None),
        ([None, 7], None),
        ({"url": "https://a.test/"}, None),
    ],
)
def test_a_link_may_stand_in_a_list(link: Any, url: str | None) -> None:
    translations = [{"title": "One", "linkUrl": link, "permalink": link}]
    post = parse({**EXAMPLES["posts"], "translations": translations}, CATALOGUE["posts"].fields)
    request = parse(
        {**EXAMPLES["feature_requests"], "translations": translations}, CATALOGUE["feature_requests"].fields
    )
    assert isinstance(post, Row)
    assert isinstance(request, Row)
    assert (post.fields["link_url"], request.fields["permalink"]) == (url, url)


def test_a_single_translation_may_stand_alone() -> None:
    row = parse(
        {**EXAMPLES["posts"], "translations": {"title": "One", "language": "EN"}}, CATALOGUE["posts"].fields
    )
    assert isinstance(row, Row)
    assert (row.fields["title"], row.fields["languages"]) == ("One", ["EN"])


def test_no_text_holds_what_no_store_takes() -> None:
    raw = json.loads(
        '{"id": "1", "date": "2026-01-01", "status": "a\\u0000b\\ud800c", '
        '"translations": [{"title": "\\udfff"}]}'
    )
    row = parse(raw, CATALOGUE["feature_requests"].fields)
    assert isinstance(row, Row)
    assert (row.fields["status"], row.fields["title"]) == ("ab\ufffdc", "\ufffd")


# --- single values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7), (-7, -7), (7.0, 7), ("7", 7), (" +7 ", 7), ("7.0", 7), ("-7", -7), ("", None), ("  ", None),
        ("007", 7), (10**17, 10**17), ("9" * 18, 10**18 - 1),
    ],
)  # fmt: skip
def test_a_whole_number_is_read_from_either_type(value: Any, expected: int | None) -> None:
    assert integer(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        7.5,
        "7.5",
        "seven",
        "1e3",
        "٧",
        float("nan"),
        float("inf"),
        1e300,
        10**18,
        "1" * 19,
        [],
        {},
    ],
)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(Unreadable):
        integer(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), ("true", True), ("TRUE ", True), ("1", True), (1, True),
        (False, False), ("false", False), ("0", False), (0, False), ("", None),
    ],
)  # fmt: skip
def test_a_flag_is_read_from_either_type(value: Any, expected: bool | None) -> None:
    assert flag(value) is expected


@pytest.mark.parametrize("value", ["maybe", 2, 0.5, float("nan"), None, [], {}])
def test_what_is_no_flag(value: Any) -> None:
    with pytest.raises(Unreadable):
        flag(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ""), ("a", "a"), (7, "7"), (7.0, "7"), (7.5, "7.5"), (1e22, "1e+22"), (10**30, str(10**30))],
)
def test_text_takes_numbers_as_their_digits(value: Any, expected: str) -> None:
    assert text(value) == expected


@pytest.mark.parametrize(
    "value", [True, None, float("nan"), float("-inf"), pytest.param(10**5000, id="endless"), [], {}]
)
def test_what_is_no_text(value: Any) -> None:
    with pytest.raises(Unreadable):
        text(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[("12", "12"), (12, "12"), (" 12\n", "12"), (2**63 - 1, str(2**63 - 1)), (10**20, str(10**20))],
        *[(12.0, "12"), (1.2e2, "120"), ("12.0", "12"), (" 12.00 ", "12"), (-5.0, "-5"), (-5, "-5")],
        (2.0**53 - 1, str(2**53 - 1)),
    ],
)
def test_an_id_is_the_same_in_either_type(value: Any, expected: str) -> None:
    assert row_id(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        True,
        1.5,
        "1.5",
        2.0**53,
        1e300,
        float("nan"),
        float("inf"),
        None,
        [],
        {},
        "",
        "a b",
        "../1",
        "12.",
        ".0",
    ],
)
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(Unreadable):
        row_id(value)


@pytest.mark.parametrize(
    ("value", "hour"),
    [
        ("2026-03-01T10:00:00Z", 10), ("2026-03-01T10:00:00", 10), ("2026-03-01T10:00:00.999Z", 10),
        ("2026-03-01T10:00:00+02:00", 8), ("2026-03-01T10:00:00.000+0000", 10),
        (" 2026-03-01 10:00:00Z ", 10),
        ("2026-03-01", 0), ("20260301T100000Z", 10),
        ("2026-03-01t10:00:00z", 10), ("2026-03-01 10:00:00z", 10), ("2026-03-01t12:00:00.5+02:00", 10),
    ],
)  # fmt: skip
def test_a_date_is_read_as_utc(value: str, hour: int) -> None:
    assert moment(value).replace(microsecond=0) == datetime(2026, 3, 1, hour, tzinfo=UTC)


@settings(deadline=None)
@given(anything)
def test_no_value_makes_a_parser_fail_but_as_unreadable(value: Any) -> None:
    for parser in (text, integer, flag, mapping, moment, row_id):
        try:
            parser(value)
        except Unreadable as error:
            assert str(error).startswith(("not ", "a "))  # noqa: PT017

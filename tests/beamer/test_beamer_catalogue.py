"""The streams against the API reference: its parameters, and its examples in both of its spellings."""

from datetime import UTC, datetime
from typing import Any

import pytest

from connector.beamer.pagination import Cursor, Habits, params_of
from connector.beamer.rows import Row, integer, parse
from connector.beamer.streams import CATALOGUE, children
from tests.beamer.examples import EXAMPLES, PARSED

DAY = datetime(2018, 12, 31, tzinfo=UTC)
NUMBERS = {
    "id", "userId", "views", "uniqueViews", "clicks", "feedbacks", "positiveReactions", "neutralReactions",
    "negativeReactions", "score", "votesCount", "commentsCount",
}  # fmt: skip
FLAGS = {"published", "pinned", "visible", "actionComment", "autoOpen", "showInWidget", "showInStandalone"}

PAGED = {"dateFrom", "dateTo", "maxResults", "page"}
# The query parameters that the reference names for each list.
DOCUMENTED = {
    "/posts": PAGED
    | {
        "filter", "forceFilter", "filterUrl", "language", "category", "published", "archived", "expired",
        "filterByUserId", "userFirstName", "userLastName", "userEmail", "userId", "traceableLinks",
        "ignoreRequestDetails", "saveViews", "ignoreFilters",
    },
    "/posts/{parent}/comments": PAGED | {"language", "search"},
    "/posts/{parent}/reactions": PAGED | {"reaction"},
    "/nps": PAGED | {"scoreFrom", "scoreTo", "search"},
    "/requests": PAGED | {"filters", "language", "category", "status", "visible", "search"},
    "/requests/{parent}/comments": PAGED | {"visible", "language", "search"},
    "/requests/{parent}/votes": PAGED,
}  # fmt: skip


def native(raw: dict[str, Any]) -> dict[str, Any]:
    """The example with the types of the reference's schema."""
    return {name: _native(name, value) for name, value in raw.items()}


def strings(raw: dict[str, Any]) -> dict[str, Any]:
    """The example with numbers and flags as strings, whichever of the two it shows."""
    return {name: str(value) if name in NUMBERS else value for name, value in raw.items()}


def _native(name: str, value: Any) -> Any:
    if name in FLAGS:
        return value == "true"
    return int(value) if name in NUMBERS and str(value).isdigit() else value


@pytest.mark.parametrize("spelling", [dict, native, strings])
@pytest.mark.parametrize("stream", CATALOGUE)
def test_every_stream_reads_the_reference_s_example(stream: str, spelling: Any) -> None:
    row = parse(spelling(EXAMPLES[stream]), CATALOGUE[stream].fields)
    assert isinstance(row, Row)
    assert row.id == EXAMPLES[stream]["id"]
    assert row.date == DAY
    assert row.fields == PARSED[stream]


@pytest.mark.parametrize("spelling", [native, strings])
@pytest.mark.parametrize("stream", CATALOGUE)
def test_the_counters_of_a_stream_stand_in_its_parent_s_example(stream: str, spelling: Any) -> None:
    described = CATALOGUE[stream]
    counted = [integer(spelling(EXAMPLES[described.parent or ""])[name]) for name in described.counters]
    assert len(counted) == len(described.counters)
    assert all(isinstance(count, int) for count in counted)
    assert bool(counted) == (described.parent is not None)


@pytest.mark.parametrize("stream", CATALOGUE)
def test_only_documented_parameters_are_ever_sent(stream: str) -> None:
    described = CATALOGUE[stream]
    fullest = params_of(Cursor(DAY, DAY, 3), Habits(), described.cap)
    sent = {*described.params, *fullest} | ({"ignoreFilters"} if described.filtered else set())
    assert set(fullest) == PAGED
    assert sent <= DOCUMENTED[described.path]


def test_reading_posts_never_counts_as_a_view() -> None:
    assert CATALOGUE["posts"].params == {"saveViews": "false", "ignoreRequestDetails": "true"}
    assert all(not stream.params for name, stream in CATALOGUE.items() if name != "posts")


def test_pages_are_as_long_as_the_reference_allows() -> None:
    assert {name for name, stream in CATALOGUE.items() if stream.cap == 100} == {"nps"}
    assert all(stream.cap == 10 for name, stream in CATALOGUE.items() if name != "nps")


@pytest.mark.parametrize("stream", CATALOGUE)
def test_nothing_is_read_by_id(stream: str) -> None:
    path = CATALOGUE[stream].path_for("42")
    assert not path.endswith("42")
    assert path.startswith("/")
    assert ("42" in path) == (CATALOGUE[stream].parent is not None)


def test_children_are_found_by_their_parent() -> None:
    assert [stream.name for stream in children(CATALOGUE, "posts")] == ["comments", "reactions"]
    assert [stream.name for stream in children(CATALOGUE, "feature_requests")] == [
        "feature_request_comments",
        "feature_request_votes",
    ]
    assert children(CATALOGUE, "nps") == ()


def test_each_stream_has_a_kind_of_its_own() -> None:
    assert len({stream.kind for stream in CATALOGUE.values()}) == len(CATALOGUE)


@pytest.mark.parametrize("stream", ["feature_requests", "feature_request_comments"])
@pytest.mark.parametrize("name", ["internalUserEmail", "internalUserFirstname", "internalUserLastname"])
def test_any_trace_of_a_team_member_is_seen_even_behind_blanks(stream: str, name: str) -> None:
    blank = dict.fromkeys(("internalUserEmail", "internalUserFirstname", "internalUserLastname"), "")
    row = parse({**EXAMPLES[stream], **blank, name: "Jane"}, CATALOGUE[stream].fields)
    assert isinstance(row, Row)
    assert row.fields["internal"] == "Jane"

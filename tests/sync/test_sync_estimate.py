"""What a backfill is estimated to cost, from counters and counts."""

from datetime import UTC, datetime, timedelta

import pytest

from connector.beamer.streams import CATALOGUE
from connector.domain.state import ChildState, ParentState, Progress, StreamState
from connector.state.backfills import Range
from connector.sync.backfill.estimate import Estimate, estimate, to_count

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SINCE = NOW - timedelta(days=100)
EVERY = tuple(CATALOGUE)


def wanted(*streams: str, until: datetime | None = None) -> Range:
    return Range(SINCE, until, streams or EVERY, "")


def known(*posts: tuple[int, str, str], complete: bool = True) -> Progress:
    """Posts by their age in days, with the counters of their comments and reactions."""
    progress = Progress()
    for scope, name in enumerate(CATALOGUE):
        progress.streams[name] = StreamState(scope, name, complete=complete)
    for number, (days, comments, reactions) in enumerate(posts):
        name = str(number)
        progress.parents.setdefault("posts", {})[name] = ParentState(name, NOW - timedelta(days=days))
        for stream, counter in (("comments", comments), ("reactions", reactions)):
            progress.children.setdefault(stream, {})[name] = ChildState(0, name, counter)
    return progress


def guess(progress: Progress, of: Range, **counted: int) -> tuple[int, int, int, int]:
    found = estimate(CATALOGUE, of, progress, counted)
    return found.requests, found.most_requests, found.rows, found.most_rows


@pytest.mark.parametrize(
    ("posts", "due"),
    [
        ([], (1, 1, 0, 0)),
        ([(10, "0", "0,0,0")], (1, 1, 1, 1)),
        # Three rows on a page; ten fill one, and an empty page behind it proves the end.
        ([(10, "3", "0,0,0")], (2, 2, 4, 4)),
        ([(10, "10", "0,0,0")], (3, 3, 11, 11)),
        ([(10, "11", "4,5,1")], (5, 5, 22, 22)),
        # Of a post older than the range nobody knows how many of its children lie in it.
        ([(200, "25", "0,0,0")], (2, 4, 0, 25)),
        # A counter that cannot be read has to be asked.
        ([(10, "?", "0,0,0")], (2, 2, 1, 1)),
        ([(days, "0", "0,0,0") for days in range(1, 12)], (2, 2, 11, 11)),
    ],
)
def test_a_list_costs_its_pages(posts: list[tuple[int, str, str]], due: tuple[int, int, int, int]) -> None:
    assert guess(known(*posts), wanted("posts", "comments", "reactions")) == due


def test_an_end_leaves_younger_posts_out() -> None:
    progress = known((10, "5", "0,0,0"), (50, "5", "0,0,0"), (200, "5", "0,0,0"))
    of = wanted("posts", "comments", until=NOW - timedelta(days=30))
    # No list is whole then: a page each at the least.
    assert guess(progress, of) == (3, 3, 1, 11)


def test_a_post_that_was_put_on_top_again_is_read_although_it_is_younger_than_the_end() -> None:
    progress = known((10, "5", "0,0,0"), (20, "15", "0,0,0"), (50, "5", "0,0,0"))
    of = wanted("posts", "comments", until=NOW - timedelta(days=30))
    assert guess(progress, of) == (2, 2, 1, 6)
    progress.parents["posts"]["1"].known_at = NOW - timedelta(days=19)
    assert guess(progress, of) == (2, 2, 1, 6)
    progress.parents["posts"]["1"].known_at = NOW - timedelta(days=40)
    assert guess(progress, of) == (3, 4, 1, 21)


def test_counts_stand_in_for_what_no_sync_has_seen() -> None:
    nothing = Progress()
    asked = to_count(CATALOGUE, wanted(), nothing)
    assert [(reading.stream, reading.since) for reading in asked] == [
        ("posts", None),
        ("nps", SINCE),
        ("feature_requests", None),
    ]
    found = estimate(CATALOGUE, wanted(), nothing, {"posts": 30, "nps": 250, "feature_requests": 0})
    assert found == Estimate(
        requests=4 + 3 + 1,
        most_requests=4 + 3 + 1,
        rows=0,
        most_rows=280,
        users=250,
        unknown=["comments", "reactions", "feature_request_comments", "feature_request_votes"],
    )


def test_what_syncs_have_seen_is_not_counted() -> None:
    assert [reading.stream for reading in to_count(CATALOGUE, wanted(), known((5, "1", "0,0,0")))] == [
        "nps",
    ]
    assert not to_count(CATALOGUE, wanted("comments"), known((5, "1", "0,0,0")))
    unfinished = known((5, "1", "0,0,0"), complete=False)
    assert [reading.stream for reading in to_count(CATALOGUE, wanted("comments"), unfinished)] == ["posts"]


def test_users_are_those_of_rows_that_have_one() -> None:
    found = estimate(CATALOGUE, wanted("posts", "comments"), known((10, "7", "0,0,0")), {})
    assert (found.most_rows, found.users) == (8, 7)

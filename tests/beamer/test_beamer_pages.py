"""Following `next_page` to the end reads every row, whatever the unknowns of the API turn out to be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.beamer.pagination import Cursor, Habits, Order, PageRows, PageRules, iso, next_page, params_of
from connector.errors import BadAnswer
from tests.beamer.lists import START, FakeList, Reading, items, names, read

MINUTE = 60

SHAPES = {
    "empty": [],
    "one": [0],
    "a page but one": range(0, 9 * MINUTE, MINUTE),
    "a page": range(0, 10 * MINUTE, MINUTE),
    "a page and one": range(0, 11 * MINUTE, MINUTE),
    "ten pages": range(0, 100 * MINUTE, MINUTE),
    "every second": range(47),
    "25 in one second": [*range(12), *[100] * 25, *range(200, 214)],
    "25 in each of two seconds": [*[100] * 25, *[101] * 25],
    "25 in one second and two newer": [*[100] * 25, 101, 102],
    "all in one second": [5] * 30,
}


@pytest.mark.parametrize("by_date", [False, True])
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
@pytest.mark.parametrize("first_page", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_is_read(shape: str, first_page: int, order: str, by_date: bool) -> None:
    for from_inclusive in (True, False):
        for to_inclusive in (True, False):
            source = FakeList(
                items(*SHAPES[shape]),
                first_page=first_page,
                order=order,
                from_inclusive=from_inclusive,
                to_inclusive=to_inclusive,
            )
            reading = read(source, by_date=by_date)
            assert reading.found == names(source)
            assert reading.habits.first_page in (None, first_page)


@pytest.mark.parametrize("by_date", [False, True])
@pytest.mark.parametrize("first_page", [0, 1])
@pytest.mark.parametrize("stride", [2, 3, 7, 11])
def test_every_row_is_read_where_rows_are_hidden_after_the_page_is_cut(
    stride: int, first_page: int, by_date: bool
) -> None:
    rows = items(*range(0, 60 * MINUTE, MINUTE))
    hidden = frozenset(f"r{n}" for n in range(5, 60, stride))
    source = FakeList(rows, first_page=first_page, hidden=hidden)
    reading = read(source, by_date=by_date)
    assert reading.found == names(source)
    assert reading.habits.short_ends is False


@pytest.mark.parametrize("by_date", [False, True])
def test_two_pages_that_are_hidden_whole_do_not_end_a_list_with_short_pages(by_date: bool) -> None:
    hidden = frozenset(f"r{n}" for n in range(10, 35))
    source = FakeList(items(*range(0, 60 * MINUTE, MINUTE)), hidden=hidden)
    assert read(source, Habits(short_ends=False), by_date=by_date).found == names(source)


def test_an_empty_page_behind_a_full_one_is_no_end_until_that_was_seen() -> None:
    hidden = frozenset(f"r{n}" for n in range(10, 20))
    source = FakeList(items(*range(0, 30 * MINUTE, MINUTE)), hidden=hidden)
    reading = read(source)
    assert reading.found == names(source)
    assert reading.habits.short_ends is False


@settings(deadline=None)
@given(
    seconds=st.lists(st.integers(0, 60), max_size=70),
    order=st.sampled_from(["newest", "oldest"]),
    first_page=st.sampled_from([0, 1]),
    told=st.sampled_from([None, 0]),
    inclusive=st.tuples(st.booleans(), st.booleans()),
    by_date=st.booleans(),
)
def test_every_row_of_any_ordered_list_is_read_and_the_requests_are_bounded(
    seconds: list[int],
    order: str,
    first_page: int,
    told: int | None,
    inclusive: tuple[bool, bool],
    by_date: bool,
) -> None:
    source = FakeList(
        items(*seconds),
        order=order,
        first_page=first_page,
        from_inclusive=inclusive[0],
        to_inclusive=inclusive[1],
    )
    reading = read(source, Habits(first_page=told), by_date=by_date)
    assert reading.found == names(source)
    assert reading.requests <= 3 * (len(seconds) // 5 + 2)


@pytest.mark.parametrize("salt", range(40))
@pytest.mark.parametrize("newer", [1, 2, 5])
def test_a_burst_in_a_list_without_order_is_not_taken_for_order(salt: int, newer: int) -> None:
    rows = [*items(*[100] * 25, prefix=f"a{salt}-"), *items(*range(101, 101 + newer), prefix=f"b{salt}-")]
    source = FakeList(rows, order="unordered")
    assert read(source, by_date=True).found == names(source)


# --- while a list changes -----------------------------------------------------------------------------


@settings(deadline=None)
@given(order=st.sampled_from(["newest", "oldest"]), picks=st.lists(st.integers(0, 59), max_size=60))
def test_deleting_while_paging_by_date_loses_no_row(order: str, picks: list[int]) -> None:
    doomed = iter(dict.fromkeys(picks))

    def delete(source: FakeList, _: int) -> None:
        for name in [f"r{n}" for _, n in zip(range(4), doomed, strict=False)]:
            source.rows = [row for row in source.rows if row[0] != name]

    source = FakeList(items(*range(0, 60 * MINUTE, MINUTE)), order=order, between=delete)
    reading = read(source, by_date=True)
    assert reading.found >= names(source)


@pytest.mark.parametrize("first_page", [0, 1])
@pytest.mark.parametrize("behind", [1, 2, 3])
@pytest.mark.parametrize("come", [1, 9, 10, 11, 20])
def test_rows_that_come_while_paging_by_number_hide_none_and_teach_nothing_false(
    come: int, behind: int, first_page: int
) -> None:
    def grow(source: FakeList, request: int) -> None:
        if request == behind:
            source.rows += items(*range(10_000, 10_000 + come), prefix="new")

    source = FakeList(items(*range(0, 45 * MINUTE, MINUTE)), first_page=first_page, between=grow)
    old = names(source)
    reading = read(source)
    assert reading.found >= old
    assert not (first_page == 0 and reading.habits.first_page == 1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 25), max_size=8).filter(lambda growth: growth.count(10) < 3))
def test_a_list_that_keeps_growing_is_still_read(growth: list[int]) -> None:
    def grow(source: FakeList, request: int) -> None:
        if request <= len(growth):
            fresh = range(request * 10_000, request * 10_000 + growth[request - 1])
            source.rows += items(*fresh, prefix=f"new{request}-")

    source = FakeList(items(*range(0, 45 * MINUTE, MINUTE)), between=grow)
    old = names(source)
    reading = read(source)
    assert reading.found >= old
    assert reading.habits.first_page != 1


# --- how pages are counted ----------------------------------------------------------------------------


def test_counting_from_one_is_learnt_once_and_saves_the_request_from_then_on() -> None:
    source = FakeList(items(*range(0, 25 * MINUTE, MINUTE)), first_page=1)
    reading = read(source, Habits(short_ends=True))
    assert reading.habits.first_page == 1
    assert [asked.get("page") for asked in source.asked] == [None, "1", None, "2", "3"]
    source.asked.clear()
    assert read(source, reading.habits).found == names(source)
    assert [asked.get("page") for asked in source.asked] == [None, "2", "3"]


def test_counting_from_zero_is_learnt_from_a_second_page_that_shows_other_rows() -> None:
    source = FakeList(items(*range(0, 25 * MINUTE, MINUTE)))
    assert read(source).habits.first_page == 0


def test_a_second_page_that_shares_rows_with_the_first_teaches_nothing() -> None:
    first, moved = items(*range(10)), items(*range(1, 11))
    cursor = Cursor(page=1, last_ids=tuple(name for name, _ in first))
    page = PageRows(tuple(name for name, _ in moved), tuple(date for _, date in moved), 10)
    assert next_page(cursor, page, Habits(), PageRules(10, by_date=False)).habits.first_page is None


def test_a_wrong_zero_costs_a_request_and_no_row() -> None:
    source = FakeList(items(*range(0, 35 * MINUTE, MINUTE)), first_page=1)
    reading = read(source, Habits(first_page=0, short_ends=True))
    assert reading.found == names(source)
    assert reading.requests == 5


@pytest.mark.parametrize("count", [1, 7, 10])
def test_an_api_that_shows_its_last_page_for_ever_is_told_and_teaches_no_one(count: int) -> None:
    source = FakeList(items(*range(count)), pages="clamped")
    reading = Reading(Habits())
    with pytest.raises(BadAnswer):
        reading.follow(source, by_date=False)
    assert reading.found == names(source)
    assert reading.habits.first_page is None


@pytest.mark.parametrize("told", [None, 0, 1])
def test_an_api_without_pages_is_told_after_few_requests(told: int | None) -> None:
    source = FakeList(items(*range(30)), pages="ignored")
    reading = Reading(Habits(first_page=told))
    with pytest.raises(BadAnswer):
        reading.follow(source, by_date=False)
    assert reading.requests <= 6


def test_an_api_that_ignores_dates_is_told_at_once() -> None:
    reading = Reading(Habits())
    with pytest.raises(BadAnswer):
        reading.follow(FakeList(items(*range(30)), dates="ignored"), by_date=True)
    assert reading.requests == 2


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_place_kept_since_before_counting_was_learnt_goes_on_without_a_gap(page: int) -> None:
    source = FakeList(items(*range(0, 50 * MINUTE, MINUTE)), first_page=1)
    before = source.answer({"page": str(max(1, page - 1))})
    kept = Cursor(page=page, last_ids=before.ids)
    reading = Reading(Habits(first_page=1, short_ends=True)).follow(source, by_date=False, cursor=kept)
    behind = [name for name, _ in source.rows[: 50 - 10 * max(1, page - 1)]]
    assert reading.found >= set(behind)


def test_a_whole_page_of_new_rows_between_two_runs_does_not_strand_the_old_ones() -> None:
    source = FakeList(items(*range(0, 40 * MINUTE, MINUTE)))
    kept = Cursor(page=3, last_ids=source.answer({"page": "2"}).ids)
    source.rows += items(*range(10_000, 10_010), prefix="new")
    reading = Reading(Habits(first_page=0)).follow(source, by_date=False, cursor=kept)
    assert reading.found >= {f"r{n}" for n in range(10)}


# --- the end of a list --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "short_ends", "requests"),
    [
        (0, None, 2),
        (7, None, 2),
        (10, None, 3),
        (17, None, 3),
        (0, True, 1),
        (7, True, 1),
        (10, True, 2),
        (17, True, 2),
        (7, False, 4),
        (10, False, 4),
    ],
)
def test_what_the_end_of_a_list_costs(count: int, short_ends: bool | None, requests: int) -> None:
    reading = read(FakeList(items(*range(count))), Habits(short_ends=short_ends))
    assert reading.requests == requests
    assert reading.habits.short_ends is (short_ends is not False)


def test_a_row_behind_a_short_page_is_never_forgotten() -> None:
    source = FakeList(items(*range(20)), hidden=frozenset({"r15"}))
    habits = read(source).habits
    assert habits.short_ends is False
    assert read(FakeList(items(0)), habits).habits.short_ends is False


def test_a_read_behind_a_page_that_was_thought_the_last_unlearns_it() -> None:
    cursor = Cursor(page=1, last_ids=("a",), behind_short=True)
    turned = next_page(
        cursor, PageRows(("b",), (START,), 1), Habits(short_ends=True), PageRules(10, by_date=True)
    )
    assert turned.habits.short_ends is False
    assert turned.next is not None


# --- order --------------------------------------------------------------------------------------------


def _page(*seconds: int) -> PageRows:
    rows = items(*seconds)
    return PageRows(tuple(name for name, _ in rows), tuple(date for _, date in rows), len(rows))


@pytest.mark.parametrize(
    ("seconds", "order"),
    [
        ([], Order.UNKNOWN),
        ([1], Order.UNKNOWN),
        ([1, 1, 1], Order.UNKNOWN),
        ([2, 1, 1], Order.NEWEST),
        ([1, 1, 2], Order.OLDEST),
        ([1, 2, 1], Order.NONE),
    ],
)
def test_the_order_of_a_page(seconds: list[int], order: Order) -> None:
    assert _page(*seconds).order is order


@pytest.mark.parametrize(
    ("pages", "order"),
    [
        ([[3, 2], [2, 1]], Order.NEWEST),
        ([[3, 2], [5, 5]], Order.NEWEST),
        ([[2, 3], [1, 2]], Order.OLDEST),
        ([[3, 2], [2, 3]], Order.NONE),
        ([[3, 1, 2], [3, 2, 1]], Order.NONE),
    ],
)
def test_one_page_out_of_order_outweighs_those_in_order(pages: list[list[int]], order: Order) -> None:
    habits = Habits()
    for seconds in pages:
        habits = next_page(Cursor(), _page(*seconds), habits, PageRules(10, by_date=True)).habits
    assert habits.order is order


def test_a_list_once_seen_without_order_is_not_paged_by_date() -> None:
    full = _page(*range(10, 0, -1))
    turned = next_page(Cursor(), full, Habits(order=Order.NONE), PageRules(10, by_date=True))
    assert turned.next == Cursor(page=1, last_ids=full.ids)


def test_by_date_each_page_overlaps_the_one_before_even_if_dates_are_exclusive() -> None:
    source = FakeList(items(*range(0, 30 * MINUTE, MINUTE)), to_inclusive=False)
    first = source.answer({})
    turned = next_page(Cursor(), first, Habits(), PageRules(10, by_date=True))
    assert turned.next is not None
    second = source.answer(params_of(turned.next, turned.habits, 10))
    assert second.ids[0] == first.ids[-1]


# --- the query ----------------------------------------------------------------------------------------


def test_the_first_page_is_asked_without_a_page() -> None:
    assert params_of(Cursor(), Habits(first_page=1), 10) == {"maxResults": "10"}


def test_a_place_names_its_window_and_page() -> None:
    cursor = Cursor(START, START + timedelta(days=1), page=3)
    assert params_of(cursor, Habits(first_page=0), 100) == {
        "maxResults": "100",
        "dateFrom": "2026-01-01T00:00:00Z",
        "dateTo": "2026-01-02T00:00:00Z",
        "page": "3",
    }


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9998, 12, 30)), st.integers(-14, 14))  # noqa: DTZ001
def test_a_date_is_written_in_utc(naive: datetime, hours: int) -> None:
    moment = naive.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))
    assert datetime.fromisoformat(iso(moment)) == moment.astimezone(UTC)


@settings(deadline=None)
@given(
    ids=st.lists(st.sampled_from("abcdefghijkl"), max_size=12),
    seconds=st.lists(st.integers(0, 3), max_size=12),
    cursor=st.builds(
        Cursor,
        page=st.integers(0, 4),
        last_ids=st.lists(st.sampled_from("abc"), max_size=3).map(tuple),
        behind_short=st.booleans(),
        empty_pages=st.integers(0, 3),
        repeated=st.integers(0, 2),
    ),
    habits=st.builds(
        Habits,
        order=st.sampled_from(Order),
        first_page=st.sampled_from([None, 0, 1]),
        short_ends=st.sampled_from([None, True, False]),
    ),
    by_date=st.booleans(),
)
def test_no_page_is_too_odd_and_what_was_learnt_for_good_stays(
    ids: list[str], seconds: list[int], cursor: Cursor, habits: Habits, by_date: bool
) -> None:
    page = replace(_page(*seconds), ids=tuple(ids), count=len(ids))
    try:
        turned = next_page(cursor, page, habits, PageRules(10, by_date))
    except BadAnswer:
        return
    assert habits.first_page in (None, turned.habits.first_page)
    assert not (habits.short_ends is False and turned.habits.short_ends)
    assert not (habits.order is Order.NONE and turned.habits.order is not Order.NONE)

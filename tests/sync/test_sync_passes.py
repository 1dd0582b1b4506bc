"""How far back a list is read, and when that was enough."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.beamer.pagination import Cursor, Habits, Order, PageRows
from connector.sync.lists import passes, stored_pass
from connector.sync.lists.blocks import Part
from connector.sync.lists.passes import (
    Continued,
    ListPass,
    Paging,
    PassPage,
    PassPlan,
    PassProgress,
    PassStep,
)

BASE = datetime(2026, 1, 1, tzinfo=UTC)
LOW = BASE + timedelta(hours=50)
NEWEST = Habits(Order.NEWEST, 0, True)
OLDEST = Habits(Order.OLDEST, 0, True)
NONE = Habits(Order.NONE, 0, True)


def page(*hours: int, fresh: int = 0, cap: int = 10) -> PassPage:
    assert len(hours) <= cap
    dates = tuple(BASE + timedelta(hours=hour) for hour in hours)
    return PassPage(PageRows(tuple(map(str, hours)), dates, len(hours)), fresh)


def child(counter: str, read_counter: str | None, habits: Habits = NEWEST, surplus: int = 0) -> ListPass:
    return passes.begin_child(counter, read_counter, surplus, LOW, habits, 10)


def whole(cursor: Cursor, **progress: Any) -> ListPass:
    """A whole list that was read so far."""
    return ListPass(Part(cursor), progress=PassProgress(**progress))


def changed(pass_: ListPass, **progress: Any) -> ListPass:
    return replace(pass_, progress=replace(pass_.progress, **progress))


def after(pass_: ListPass, seen: PassPage, habits: Habits = NEWEST) -> PassStep:
    return passes.after_page(pass_, seen, habits, 10)


def test_a_list_that_fits_on_a_page_is_read_whole() -> None:
    assert child("10", "9").part.low is None
    assert child("10", None, OLDEST).part.low is None
    assert child("11", "10").part.low == LOW
    assert child("?", None).part.low == LOW


def test_newest_first_a_pass_ends_below_the_lookback_once_all_was_found() -> None:
    pass_ = child("40", "39")
    assert pass_.paging is Paging.NEWEST_FIRST
    assert after(pass_, page(*range(59, 49, -1), fresh=1)).done is False
    assert after(pass_, page(*range(58, 48, -1), fresh=1)).done
    assert not after(pass_, page(*range(58, 48, -1), fresh=0)).done


def test_found_too_little_in_a_window_the_whole_list_is_read() -> None:
    pass_ = child("40", "38", OLDEST)
    assert pass_.part.cursor.since == LOW - timedelta(seconds=1)
    step = after(pass_, page(51, 52, fresh=1), OLDEST)
    assert not step.done
    behind = after(step.list_pass, PassPage(PageRows((), (), 0), 0), OLDEST)
    assert not behind.done
    assert behind.list_pass.part.cursor.since is None
    assert behind.list_pass.part.low is None


def test_a_counter_that_never_matches_ends_all_the_same() -> None:
    pass_ = child("40", "30", NONE)
    for asked in range(1, 12):
        step = after(pass_, page(3, 1, 2) if asked % 2 else PassPage(PageRows((), (), 0), 0), NONE)
        if step.done:
            break
        pass_ = step.list_pass
    assert step.done
    assert asked <= 8


def test_rows_that_a_counter_has_still_to_show_are_not_expected_again() -> None:
    first = after(child("3", None), page(58, 57, 56, 55, fresh=4))
    assert first.done
    assert passes.surplus_after(first.list_pass, None, 0) == 1
    again = child("4", "3", surplus=1)
    assert again.plan.expected == 0
    assert passes.surplus_after(after(again, page(58, 57)).list_pass, "3", 1) == 0


def test_out_of_order_the_trust_is_gone() -> None:
    step = after(child("40", "39"), page(58, 3, 57, 1, 2, 4, 5, 6, 7, 8, fresh=1))
    assert not step.done
    assert step.list_pass.paging is Paging.DATE
    assert step.list_pass.part.cursor.since == LOW - timedelta(seconds=1)


def test_the_watermark_stops_at_what_waits_and_at_now_and_never_goes_back() -> None:
    newest, waits, now = (BASE + timedelta(hours=hour) for hour in (5, 3, 4))
    pass_ = whole(Cursor(), newest=newest, unsettled=waits)
    assert passes.watermark_after(pass_, None, now) == waits
    assert passes.watermark_after(pass_, newest, now) == newest
    assert passes.watermark_after(whole(Cursor(), newest=newest), None, now) == now
    assert passes.watermark_after(whole(Cursor()), None, now) is None


def test_the_watermark_stops_where_a_pass_began_that_was_taken_up_again() -> None:
    """In a list without order, what came in between stands on a page that was read before."""
    begun, newest, now = (BASE + timedelta(hours=hour) for hour in (1, 30, 31))
    pass_ = whole(Cursor(), newest=newest, started_at=begun)
    assert passes.watermark_after(pass_, None, now) == newest
    again = passes.resumed(stored_pass.restore(stored_pass.dump(pass_)), NONE)
    assert passes.watermark_after(again, None, now) == begun


def test_a_pass_survives_the_store() -> None:
    first = page(*range(69, 59, -1), fresh=1)
    pass_ = passes.after_page(child("40", "30"), first, NEWEST, 10, BASE).list_pass
    assert pass_.progress.started_at == BASE
    assert stored_pass.restore(stored_pass.dump(pass_)) == pass_


@pytest.mark.parametrize(("shown", "left"), [((58,), -1), ((58, 57), 0), ((58, 57, 56), 0)])
def test_a_row_that_a_resumed_pass_shows_again_hides_none_that_is_missing(
    shown: tuple[int, ...], left: int
) -> None:
    """A list that lagged its counter, cut short and read again, counted its one row twice (seed 3758)."""
    cut = after(child("2", None, NONE), page(*shown, fresh=len(shown)), NONE).list_pass
    again = changed(cut, continued=Continued.REST, restarts=1, rows_read=2 * len(shown))
    assert passes.surplus_after(again, None, 0) == left


def test_a_later_run_goes_on_by_date_since_pages_have_shifted() -> None:
    numbered = whole(Cursor(page=3, last_ids=("1",)), reached=BASE)
    newest, oldest = (passes.resumed(numbered, habits).part.cursor for habits in (NEWEST, OLDEST))
    assert (newest.page, newest.until) == (0, BASE + timedelta(seconds=1))
    assert (oldest.page, oldest.since) == (0, BASE - timedelta(seconds=1))
    assert passes.resumed(numbered, NONE).part == numbered.part


def test_a_read_behind_a_short_page_is_resumed_as_it_was() -> None:
    behind = whole(Cursor(page=1, last_ids=("1",), behind_short=True), reached=BASE)
    assert passes.resumed(behind, NEWEST).part == behind.part


def test_a_short_list_of_a_larger_counter_is_looked_behind_once() -> None:
    for young in (True, False):
        pass_ = passes.begin_child("14", None, 0, LOW, NEWEST, 10, young=young)
        step = after(pass_, page(58, 57, 56, 55, 54, 53, 52, fresh=7))
        assert not step.done
        assert step.list_pass.part.cursor.behind_short
        rest = after(step.list_pass, page(51, 50, fresh=2))
        assert rest.habits.short_ends is False


def test_behind_a_short_page_is_looked_for_what_the_counter_says() -> None:
    """Ten are shown in all, and one of the first page is not: nine would have made a whole list."""
    nine = page(*range(58, 49, -1), fresh=9)
    assert after(child("10", None), nine).list_pass.part.cursor.behind_short
    assert after(
        passes.begin_audit("24", BASE, young=True), replace(nine, new_rows=0)
    ).list_pass.part.cursor.behind_short
    assert after(child("9", None), nine).done
    assert after(passes.begin_audit("9", BASE, young=True), replace(nine, new_rows=0)).done


@pytest.mark.parametrize("habits", [NEWEST, OLDEST, NONE], ids=["newest", "oldest", "none"])
def test_an_audit_of_an_older_parent_looks_behind_a_short_page(habits: Habits) -> None:
    """Its pages had shrunk, and a row behind the first one took the place of a deleted one (seed 6120)."""
    hours = {NEWEST: (58, 57, 56), OLDEST: (56, 57, 58), NONE: (57, 58, 56)}[habits]
    first = after(passes.begin_audit("24", BASE, young=False), page(*hours), habits)
    assert not first.done
    assert first.list_pass.part.cursor.behind_short
    assert after(first.list_pass, page(), habits).done
    # All that its counter counts came since the start date, and is read.
    assert after(passes.begin_audit("3", BASE, young=False), page(*hours), habits).done


def test_where_all_that_was_counted_is_read_nothing_is_looked_behind() -> None:
    """Where a row was once seen behind a short page, each small list cost three empty pages more."""
    doubting, unknown = replace(NEWEST, short_ends=False), replace(NEWEST, short_ends=None)
    three = page(58, 57, 56, fresh=1)

    def sure(counter: str, read_counter: str | None) -> ListPass:
        return passes.begin_child(counter, read_counter, 0, LOW, NEWEST, 10, trusted=True)

    assert after(sure("3", "2"), three, doubting).done
    assert not after(sure("4", "3"), three, doubting).done
    assert not after(sure("3", "2"), replace(three, new_rows=0), doubting).done
    assert not after(sure("?", None), three, doubting).done
    # What short pages mean is learnt from one; counters that are not believed end nothing, nor do
    # rows that were counted twice where a reading was taken up again, nor is an audit content.
    assert not after(sure("3", "2"), three, unknown).done
    assert not after(child("3", "2"), three, doubting).done
    assert not after(changed(sure("3", "2"), continued=Continued.REST), three, doubting).done
    assert not after(passes.begin_audit("3", BASE, young=True), three, doubting).done


def test_a_second_pass_keeps_to_the_bounds() -> None:
    pass_ = whole(Cursor(BASE, LOW))
    first = after(pass_, page(3, 1, 9, 2, 8, 4, 7, 5, 6, 10, fresh=5), NONE)
    again = after(first.list_pass, page(12, 11, 13, fresh=1), NONE)
    assert not again.done
    cursor = again.list_pass.part.cursor
    assert (cursor.since, cursor.until, cursor.page) == (BASE, LOW, 0)


def test_an_old_parents_rows_before_the_start_date_are_not_looked_for() -> None:
    assert after(child("40", None), page(53, 52, 51, 50, 49, 48, 47, 46, 45, 44, fresh=4)).done


def test_lookback() -> None:
    start, mark = BASE, BASE + timedelta(days=9)
    assert passes.lowest(start, None, timedelta(hours=72)) == start
    assert passes.lowest(start, mark, timedelta(hours=72)) == mark - timedelta(hours=72)
    assert passes.lowest(start, BASE + timedelta(hours=1), timedelta(hours=72)) == start


def quarantined(read: PassPage, count: int) -> PassPage:
    return replace(read, quarantined=count, invalid=count)


def test_rows_that_cannot_be_used_may_be_what_the_counter_promised() -> None:
    step = after(child("40", "39"), quarantined(page(*range(58, 48, -1)), 1))
    assert (step.done, step.list_pass.progress.new_rows) == (True, 0)
    # It may have been shown half-made, and is asked for again.
    assert passes.surplus_after(step.list_pass, "39", 0) == -1
    # What was found before its counter moved is due still.
    assert passes.surplus_after(step.list_pass, "39", 3) == 2


@pytest.mark.parametrize(
    ("counter", "read_counter", "surplus", "fresh", "bad", "left"),
    [
        # New in quarantine, in a list that is read whole; there still; whole now; deleted.
        ("4", "3", 0, 0, 1, -1),
        ("4", "4", -1, 0, 1, -1),
        ("4", "4", -1, 1, 0, 0),
        ("4", "4", -1, 0, 0, 0),
        # One of several, and one that a first reading shows.
        ("4", "1", 0, 2, 1, -1),
        ("4", "4", -3, 1, 2, -2),
        ("4", None, 0, 3, 1, -1),
        # Asked for long enough, it is not missed again when another comes.
        ("4", "3", 0, 1, 1, 0),
        ("4", "4", 0, 0, 1, 0),
    ],
)
def test_what_is_in_quarantine_counts_as_not_shown_yet(
    counter: str, read_counter: str | None, surplus: int, fresh: int, bad: int, left: int
) -> None:
    step = after(child(counter, read_counter), replace(page(58, 57, 56, 55, fresh=fresh), invalid=bad))
    assert passes.surplus_after(step.list_pass, read_counter, surplus) == left


def test_rows_that_cannot_be_used_never_came_without_a_word() -> None:
    again = after(child("4", "4"), quarantined(page(58, 57, 56, 55), 2))
    assert (again.done, passes.surplus_after(again.list_pass, "4", 0)) == (True, 0)
    first = after(child("3", None), quarantined(page(58, 57, 56, 55, fresh=3), 1))
    assert (first.done, passes.surplus_after(first.list_pass, None, 0)) == (True, 0)


# --- pages that hold fewer rows than before -----------------------------------------------------------------


def test_a_short_page_of_new_rows_alone_does_not_end_a_list_whose_rows_are_known() -> None:
    for pass_ in (
        passes.begin_dated(LOW, NEWEST, first=False, bound=BASE),
        passes.begin_dated(LOW, OLDEST, first=False),
        passes.begin_child("40", "30", 0, LOW, NEWEST, 10),
    ):
        step = after(pass_, page(69, 68, 67, 66, 65, fresh=5))
        assert not step.done
        behind = after(step.list_pass, page(64, 63, 62, 61, 60, fresh=5), step.habits)
        assert (behind.habits.page_rows, behind.habits.short_ends) == (5, False)
        assert not behind.done


def test_nor_does_it_where_a_part_of_the_list_failed_before() -> None:
    failed = Part(Cursor(None, LOW), failures=1, failed_at=BASE)
    pass_ = passes.beside(passes.begin_dated(LOW, NEWEST, first=False, bound=BASE), (failed,))
    step = after(pass_, page(69, 68, 67, 66, 65, fresh=5))
    assert step.list_pass.part.cursor.behind_short
    assert step.list_pass.parts == (failed,)
    assert not after(pass_, page(69, 68, 67, fresh=2)).list_pass.part.cursor.behind_short


def test_a_page_with_a_row_that_is_known_or_older_ends_it_as_before() -> None:
    known = passes.begin_dated(LOW, NEWEST, first=False, bound=BASE)
    assert after(known, page(69, 68, 67, fresh=2)).done
    assert after(known, page(69, 68, 40, fresh=3)).done
    assert after(known, PassPage(PageRows((), (), 0), 0)).done
    assert after(passes.begin_dated(LOW, OLDEST, first=True), page(67, 68, 69, fresh=3), OLDEST).done


def test_a_larger_page_than_those_lately_seen_raises_the_size() -> None:
    small = replace(NEWEST, short_ends=False, page_rows=5)
    pass_ = passes.begin_dated(LOW, small, first=False, bound=BASE)
    assert after(pass_, page(69, 68, 67, 66, 65, fresh=5), small).habits.page_rows == 5
    assert after(pass_, page(69, 68, 67, 66, 65, 64, 63, fresh=7), small).habits.page_rows == 7
    assert after(pass_, page(*range(69, 59, -1), fresh=10), small).habits.page_rows is None


def test_behind_a_full_page_only_a_count_tells_that_an_error_is_the_end() -> None:
    full = Cursor(page=1, last_ids=("1",))
    window = ListPass(Part(full, LOW), PassPlan(expected=1), PassProgress(new_rows=9))
    all_of_it = ListPass(Part(full), PassPlan(counter="20"), PassProgress(rows_read=10))
    assert not passes.may_be_over(window)
    assert not passes.may_be_over(all_of_it)
    assert passes.may_be_over(changed(all_of_it, rows_read=20))
    assert passes.may_be_over(changed(replace(window, plan=PassPlan(expected=1, counted=10)), rows_read=10))
    assert passes.may_be_over(replace(window, part=Part(replace(full, behind_short=True), LOW)))
    assert not passes.may_be_over(replace(window, part=Part(Cursor(), LOW)))

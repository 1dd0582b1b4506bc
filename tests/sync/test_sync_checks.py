"""What a page of parents proves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from connector.beamer.pagination import Habits, Order, PageRows
from connector.sync.lists import blocks
from connector.sync.lists.blocks import Block, BlockCheck, CheckStep, cut

BASE = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = {str(number): BASE + timedelta(hours=number) for number in range(10)}
NEWEST = sorted(KNOWN, key=lambda name: KNOWN[name], reverse=True)
ENDS = Habits(order=Order.NEWEST, first_page=0, short_ends=True)
OPEN = Habits(order=Order.NEWEST, first_page=0, short_ends=False)


def page(*names: str, dates: dict[str, datetime] | None = None) -> PageRows:
    at = KNOWN | (dates or {})
    return PageRows(tuple(names), tuple(at[name] for name in names), len(names))


def block() -> Block:
    (only,) = cut((date, name) for name, date in KNOWN.items())
    return only


def after(
    seen: PageRows, habits: Habits = ENDS, *, proving: bool = False, check: BlockCheck | None = None
) -> CheckStep:
    return blocks.after_page(check or blocks.begin(block(), proving), seen, habits, 10)


def test_a_full_page_newest_first_with_all_that_is_known_is_a_proof() -> None:
    assert after(page(*NEWEST)).next is None


@pytest.mark.parametrize("names", [NEWEST[::-1], [*NEWEST[5:], *NEWEST[:5]]])
def test_in_another_order_a_full_page_proves_nothing(names: list[str]) -> None:
    assert after(page(*names)).next is not None


@pytest.mark.parametrize(
    ("order", "shown", "proved"),
    [
        (Order.NEWEST, 2, True),
        # Two or three rows of a list without an order, or of one whose order is not known, may be in order.
        (Order.NONE, 2, False),
        (Order.NONE, 3, False),
        (Order.UNKNOWN, 2, False),
        (Order.NONE, 1, False),
        (Order.NONE, 6, True),
    ],
)
def test_a_few_rows_in_order_prove_nothing_of_a_list_without_one(
    order: Order, shown: int, proved: bool
) -> None:
    few, names = replace(ENDS, order=order, page_rows=shown), NEWEST[:shown]
    check = blocks.begin(Block(KNOWN[names[-1]], None, tuple(names[::-1])), proving=False)
    assert (blocks.after_page(check, page(*names), few, 10).next is None) is proved


def test_a_new_one_that_pushes_an_old_one_off_a_full_page_means_reading_on() -> None:
    stranger = {"new": BASE + timedelta(days=9)}
    step = after(page("new", *NEWEST[:9], dates=stranger))
    assert step.next is not None
    last = after(page(NEWEST[8], NEWEST[9]), check=step.next)
    assert last.next is None
    assert not last.missing


@pytest.mark.parametrize(("last", "proved"), [(NEWEST[8], True), ("late", False)])
def test_a_new_one_on_a_page_with_room_for_older_ones_needs_no_second_page(last: str, proved: bool) -> None:
    dates = {"new": BASE + timedelta(days=9), "late": KNOWN[NEWEST[8]] - timedelta(minutes=1)}
    newest = Block(KNOWN[NEWEST[9]], None, tuple(NEWEST[5::-1]), tuple(NEWEST[8:5:-1]))
    check = blocks.begin(newest, proving=False)
    step = after(page("new", *NEWEST[:8], last, dates=dates), check=check)
    assert (step.next is None) == proved
    assert not step.missing


def test_when_it_is_time_for_a_proof_the_window_is_read_to_its_end() -> None:
    assert after(page(*NEWEST), proving=True).next is not None


def test_a_missing_parent_is_looked_for_behind_a_short_page_before_it_is_gone() -> None:
    step = after(page(*NEWEST[:9]))
    assert step.next is not None
    assert step.next.cursor.page == 1
    last = after(PageRows((), (), 0), check=step.next)
    assert last.next is None
    assert last.missing == {NEWEST[9]}


@pytest.mark.parametrize("order", [Order.NONE, Order.OLDEST])
def test_where_new_ones_do_not_come_first_a_short_page_is_looked_behind(order: Order) -> None:
    """Of ten one may be filtered out, and what is new then stands alone behind nine that are known."""
    few = Block(None, None, tuple(NEWEST[:9]))
    step = after(page(*NEWEST[:9]), replace(ENDS, order=order), check=blocks.begin(few, proving=False))
    assert step.next is not None
    assert step.next.cursor.page == 1
    assert after(page(NEWEST[9]), replace(ENDS, order=order), check=step.next).habits.short_ends is False
    assert after(page(*NEWEST[:9]), check=blocks.begin(few, proving=False)).next is None


def test_where_short_pages_do_not_end_a_list_a_complete_one_in_order_proves_its_window() -> None:
    few = Block(None, None, tuple(NEWEST[:7]))
    step = blocks.after_page(blocks.begin(few, False), page(*NEWEST[:7]), OPEN, 10)
    assert step.next is None
    unsure = blocks.after_page(blocks.begin(few, False), page(*NEWEST[6::-1]), OPEN, 10)
    assert unsure.next is not None

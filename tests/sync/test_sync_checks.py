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
    return blocks.after_page(check or blocks.begin(block(), proving), seen, set(KNOWN), habits, 10)


def test_a_full_page_newest_first_with_all_that_is_known_is_a_proof() -> None:
    assert after(page(*NEWEST)).next is None


@pytest.mark.parametrize("names", [NEWEST[::-1], [*NEWEST[5:], *NEWEST[:5]]])
def test_in_another_order_a_full_page_proves_nothing(names: list[str]) -> None:
    assert after(page(*names)).next is not None


def test_a_stranger_on_a_full_page_means_reading_on() -> None:
    stranger = {"new": BASE + timedelta(days=9)}
    step = after(page("new", *NEWEST[:9], dates=stranger))
    assert step.next is not None
    last = after(page(NEWEST[8], NEWEST[9]), check=step.next)
    assert last.next is None
    assert not last.missing


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
    step = blocks.after_page(blocks.begin(few, False), page(*NEWEST[:7]), set(KNOWN), OPEN, 10)
    assert step.next is None
    unsure = blocks.after_page(blocks.begin(few, False), page(*NEWEST[6::-1]), set(KNOWN), OPEN, 10)
    assert unsure.next is not None

"""Blocks tile all time, and no second is torn apart."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from connector.domain.period import SECOND
from connector.sync.lists import blocks as checks
from connector.sync.lists.blocks import cut

BASE = datetime(2026, 1, 1, tzinfo=UTC)


def parents(*seconds: int) -> list[tuple[datetime, str]]:
    return [(BASE + timedelta(seconds=second), str(index)) for index, second in enumerate(seconds)]


def test_nothing_known_is_one_block_without_bounds() -> None:
    (block,) = cut([])
    assert (block.since, block.until, block.members) == (None, None, ())


def test_blocks_are_filled_from_the_oldest_and_come_newest_first() -> None:
    blocks = cut(parents(*range(0, 2300, 100)))
    assert [len(block.members) for block in blocks] == [3, 10, 10]
    assert [block.until for block in blocks[:1]] == [None]
    assert blocks[-1].since is None
    # The newest is filled up with members of the next: the page that shows it has room for them.
    assert blocks[0].also == blocks[1].members[3:]


def test_members_come_in_one_order_so_that_a_plan_made_twice_is_the_same() -> None:
    known = parents(*range(0, 500, 100))
    assert [block.members for block in cut(known)] == [("0", "1", "2", "3", "4")]
    assert cut(reversed(known)) == cut(known)


def test_ten_and_their_multiples_make_no_block_of_their_own() -> None:
    assert [len(cut(parents(*range(count)))) for count in (1, 9, 10, 11, 20, 21, 100)] == [
        1,
        1,
        1,
        2,
        2,
        3,
        10,
    ]


def test_a_window_is_asked_a_second_wider_and_does_not_show_its_neighbours() -> None:
    newer, older = cut(parents(*range(0, 2000, 100)))
    asked, behind = (checks.begin(block, proving=False).cursor for block in (newer, older))
    assert asked.since is not None
    assert asked.since > BASE + timedelta(seconds=900)
    assert behind.until is not None
    assert behind.until < BASE + timedelta(seconds=1000)


@given(st.lists(st.integers(0, 60), max_size=60))
def test_every_moment_lies_in_just_one_block_and_perhaps_in_the_newest(seconds: list[int]) -> None:
    known = parents(*seconds)
    blocks = cut(known)
    newest, older = blocks[0], blocks[1:]
    assert [block.until for block in older[1:]] == [block.since for block in older[:-1]]
    for second in range(-2, 63):
        covering = [block for block in blocks if block.covers(BASE + second * SECOND)]
        assert len([block for block in covering if block is not newest]) <= 1 <= len(covering)
    for date, name in known:
        shown = [name in block.members + block.also for block in blocks]
        assert shown == [block.covers(date) for block in blocks]
        assert sum(name in block.members for block in blocks) == 1


@given(st.lists(st.integers(0, 60), max_size=60))
def test_only_ties_make_a_block_larger_than_a_page(seconds: list[int]) -> None:
    dates = {name: date for date, name in parents(*seconds)}
    for block in cut(parents(*seconds)):
        assert len(block.members) <= 10 or len({dates[name] for name in block.members}) == 1


def test_bounds_grow() -> None:
    bounds = [block.since for block in cut(parents(*range(0, 400, 7))) if block.since]
    assert all(newer > older for newer, older in pairwise(bounds))

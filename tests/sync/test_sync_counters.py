"""Counters, and when another attempt is worth a request."""

import pytest

from connector.errors import Transient
from connector.sync.lists import counters
from connector.sync.retries import ATTEMPTS, wait_before


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"a": "3", "b": 4}, "3,4"),
        ({"a": 3.0, "b": " 4 "}, "3,4"),
        ({"a": "0"}, "0,?"),
        ({"a": None, "b": "many"}, "?,?"),
        ({"a": -1, "b": True}, "?,?"),
        ({"a": [], "b": {}}, "?,?"),
    ],
)
def test_a_counter_is_read_leniently(raw: dict[str, object], expected: str) -> None:
    assert counters.read(raw, ("a", "b")) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"count": 12}, 12),
        ({"count": "12"}, 12),
        ({"count": 12.0}, 12),
        ({"count": 0}, 0),
        ({"count": True}, None),
        ({"count": -1}, None),
        ({"count": "many"}, None),
        ({}, None),
        ([12], None),
        (None, None),
    ],
)
def test_a_count_is_read_as_leniently(body: object, expected: int | None) -> None:
    assert counters.counted(body) == expected


@pytest.mark.parametrize(
    ("counter", "swept", "moved"),
    [
        ("0", None, False),
        ("1", None, True),
        ("0,0,0", None, False),
        ("3", "3", False),
        ("4", "3", True),
        ("2", "3", True),
        ("1,2", "2,1", True),
        ("?", None, True),
        ("?", "?", True),
        ("3", "?", True),
    ],
)
def test_any_move_is_a_move(counter: str, swept: str | None, moved: bool) -> None:
    assert counters.moved(counter, swept) is moved


def test_each_part_rises_on_its_own() -> None:
    assert counters.risen("3,0,5", "1,4,5") == 2
    assert counters.risen("?", "4") == 0
    assert counters.total("3,?,5") == 8


def test_waits_grow_and_end() -> None:
    waits = [wait_before(attempt, Transient("x"), 1.0) for attempt in range(1, ATTEMPTS + 1)]
    assert waits == [1.0, 2.0, 4.0, None]
    assert [wait_before(attempt, Transient("x"), 0.0) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]


def test_the_servers_own_wish_is_a_lower_bound() -> None:
    assert wait_before(1, Transient("x", after=17.0), 0.5) == 17.0
    assert wait_before(3, Transient("x", after=0.1), 0.5) == 3.0

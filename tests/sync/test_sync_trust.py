"""Whether counters are believed, by sums over time."""

from connector.beamer.pagination import Cursor
from connector.domain.state import ChildState, StreamState
from connector.sync.lists import counter_trust
from connector.sync.lists.blocks import Part
from connector.sync.lists.passes import ListPass, PassPlan, PassProgress


def read(state: StreamState, new_rows: int, surplus: int, before: int = 0) -> StreamState:
    pass_ = ListPass(Part(Cursor()), PassPlan(counter="9"), PassProgress(new_rows))
    child = ChildState(1, "p", "9", "9", surplus=before)
    return counter_trust.after_pass(state, pass_, child, ChildState(1, "p", "9", "9", surplus=surplus))


def times(state: StreamState, number: int, new_rows: int, surplus: int, before: int = 0) -> StreamState:
    for _ in range(number):
        state = read(state, new_rows, surplus, before)
    return state


NEW = StreamState(1, "comments")


def test_counters_that_announce_what_comes_are_trusted() -> None:
    state = times(NEW, 500, 2, 0)
    assert not state.distrusted
    assert state.announced > 30


def test_counters_that_never_move_are_found_out_by_rows_that_came_without_a_word() -> None:
    assert not times(NEW, 4, 1, 1).distrusted
    assert times(NEW, 6, 1, 1).distrusted


def test_a_few_silent_rows_among_many_are_no_reason() -> None:
    state = NEW
    for _ in range(60):
        state = read(times(state, 10, 1, 0), 1, 1)
    assert not state.distrusted


def test_a_counter_that_lags_and_catches_up_is_forgiven() -> None:
    state = NEW
    for _ in range(50):
        late = read(state, 3, 3)
        state = read(late, 0, 0, before=3)
    assert not state.distrusted


def test_trust_comes_back_when_the_counters_are_right_again() -> None:
    state = times(NEW, 20, 1, 1)
    assert state.distrusted
    assert times(state, 5, 1, 0).distrusted
    assert not times(state, 150, 1, 0).distrusted


def test_reading_a_list_in_vain_changes_nothing() -> None:
    assert read(NEW, 0, 0) is NEW

"""The rate to Segment is one for all runs of a database."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from connector.state.engine import Database, open_database
from connector.state.pace import LANES, Pace
from tests.state.racers import race
from tests.state.times import HOUR, NOW, SECOND


def taken(database: Database, per_second: int, *events: int, at: datetime = NOW) -> list[float]:
    pace = Pace(database, per_second)
    return [(pace.take(count, at) - at).total_seconds() for count in events]


@pytest.mark.parametrize(
    ("per_second", "events", "moments"),
    [
        (1_000, (100, 100, 100), [0, 0.125, 0.25]),
        (1_000, (100, 50, 100), [0, 0.125, 0.1875]),
        (500, (100, 100), [0, 0.25]),
        # A request with few events takes as long as one with a fiftieth of a second's.
        (1_000, (1, 1, 1), [0, 0.025, 0.05]),
        (10, (1, 1), [0, 0.125]),
    ],
)
def test_batches_follow_each_other(
    database: Database, per_second: int, events: tuple[int, ...], moments: list[float]
) -> None:
    assert taken(database, per_second, *events) == moments


def test_runs_of_one_database_share_it(database: Database) -> None:
    assert taken(database, 1_000, 100) == [0]
    assert taken(database, 1_000, 100) == [0.125]


def test_what_was_not_used_is_not_kept(database: Database) -> None:
    taken(database, 1_000, 100, 100)
    assert taken(database, 1_000, 100, 100, at=NOW + SECOND) == [0, 0.125]


def test_a_clock_set_back_holds_nobody_up(database: Database) -> None:
    taken(database, 1_000, 100)
    assert taken(database, 1_000, 100, at=NOW - HOUR) == [0]


def test_without_a_rate_nothing_waits_and_nothing_is_written(database: Database) -> None:
    pace = Pace(database, None)
    assert [pace.take(100, NOW) for _ in range(3)] == [NOW] * 3
    assert (pace.lanes(4), pace.batch(100)) == (4, 100)
    assert taken(database, 1_000, 100) == [0]


def test_a_rate_limits_what_is_on_its_way(database: Database) -> None:
    pace = Pace(database, 500)
    assert (pace.lanes(4), pace.lanes(1), pace.batch(100), pace.batch(20)) == (LANES, 1, 50, 20)
    assert Pace(database, 3).batch(100) == 1


class SlowClock:
    """Wakes up later than it should, each time by the next of some seconds."""

    stopped = False

    def __init__(self, *late: float) -> None:
        self._now, self._late = NOW, [*late]

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=max(0.0, seconds) + self._late.pop(0))


@pytest.mark.parametrize(
    ("late", "moments"),
    [((0.0,), 1), ((0.1,), 1), ((0.3, 0.0), 2), ((0.3, 5.0, 0.05), 3), ((9.0, 9.0, 9.0), 3)],
)
def test_a_batch_that_is_late_takes_another_moment(
    database: Database, late: tuple[float, ...], moments: int
) -> None:
    """On a busy machine several late ones would be sent together."""
    clock = SlowClock(*late)
    Pace(database, 1_000).wait(100, clock)
    assert clock.now() == NOW + timedelta(seconds=sum(late))
    assert len(late) == moments
    # The last moment that was taken is that before the next one.
    assert taken(database, 1_000, 100, at=NOW) == [sum(late[:-1]) + 0.125]


def _take(url: str, count: int) -> list[Any]:
    database = open_database(url)
    pace = Pace(database, 1_000)
    try:
        return [pace.take(100, NOW) for _ in range(count)]
    finally:
        database.close()


def test_processes_at_once_get_different_moments(database: Database, database_url: str) -> None:
    found = sorted(moment for moments in race(_take, database_url, [20] * 4) for moment in moments)
    assert found == [NOW + timedelta(seconds=number / 8) for number in range(80)]

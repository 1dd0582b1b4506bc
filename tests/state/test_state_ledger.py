"""The ledger: the quota is never overdrawn, and all processes keep to one rate together.

What is at hand of the quota is the matter of test_state_bucket.py; here all of it is, or a person asks.
"""

from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.errors import Busy, NoBudget
from connector.state import leases
from connector.state.closing import REOPENING
from connector.state.engine import Store
from connector.state.leases import Fence
from connector.state.ledger import Ledger, Limits
from connector.state.owner import this_process
from connector.state.pacing import BURST
from connector.state.period import turns
from tests.state.racers import race, spend
from tests.state.times import DAY, HOUR, NOW, SECOND


def ledger(store: Store, requests: int | None = 3, reserve: int = 0, name: str = "default") -> Ledger:
    return Ledger(store, "acct", name, Limits(requests, reserve, 30, startup=1))


def take_all(book: Ledger, now: datetime) -> int:
    count = 0
    try:
        while True:
            book.take("comments", now, beyond_bucket=True)
            count += 1
    except NoBudget:
        return count


@pytest.mark.parametrize(
    ("requests", "reserve", "got"), [(0, 0, 0), (5, 0, 5), (5, 2, 3), (5, 5, 0), (5, 9, 0)]
)
def test_what_may_be_spent(store: Store, requests: int, reserve: int, got: int) -> None:
    book = ledger(store, requests, reserve)
    assert take_all(book, NOW) == got
    balance = book.balance(NOW)
    assert (balance.used, balance.left, dict(balance.by_purpose)) == (
        got,
        0,
        {"comments": got} if got else {},
    )


def test_without_a_limit_everything_is_counted(store: Store) -> None:
    book = ledger(store, None)
    for purpose in ("posts", "nps", "posts"):
        book.take(purpose, NOW)
    balance = book.balance(NOW)
    assert (balance.used, balance.left) == (3, None)
    assert balance.by_purpose == {"posts": 2, "nps": 1}


def test_connections_of_an_account_share_its_quota(store: Store) -> None:
    ledger(store, name="one").take("posts", NOW)
    assert take_all(ledger(store, name="two"), NOW) == 2
    assert take_all(Ledger(store, "another", "one", Limits(3, 0, 30)), NOW) == 3


def test_what_is_refused_costs_nothing(store: Store) -> None:
    book = ledger(store, 1)
    first = book.take("posts", NOW)
    take_all(book, NOW)
    assert ledger(store, None).take("posts", NOW) - first < timedelta(seconds=0.04)


@pytest.mark.parametrize(
    ("since", "left"),
    [
        (30 * DAY, 0),
        # 31 days in a row, begun at any hour, hold one quota.
        (31 * DAY - SECOND, 0),
        (31 * DAY + HOUR, 3),
        (400 * DAY, 3),
        # A clock set back does not bring back what was spent.
        (-DAY, 0),
        (-400 * DAY, 0),
    ],
)
def test_how_long_a_request_counts(store: Store, since: timedelta, left: int) -> None:
    late = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    assert take_all(ledger(store), late) == 3
    assert take_all(ledger(store), late + since) == left


def test_it_says_when_there_is_budget_again(store: Store) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    book = ledger(store, 5)
    for moment in (day, day + 2 * DAY, day + 2 * DAY, day + 3 * DAY, day + 3 * DAY):
        book.take("posts", moment)
    with pytest.raises(NoBudget, match="quota") as caught:
        book.take("posts", NOW + 4 * DAY, beyond_bucket=True)
    assert caught.value.until == day + 32 * DAY
    # With a lower limit the oldest day frees nothing yet.
    with pytest.raises(NoBudget) as caught:
        ledger(store, 3).take("posts", NOW + 4 * DAY, beyond_bucket=True)
    assert caught.value.until == day + 34 * DAY
    assert take_all(ledger(store, 3), day + 34 * DAY) == 1
    with pytest.raises(NoBudget) as caught:
        ledger(store, 0).take("posts", NOW)
    assert caught.value.until is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 9)), max_size=25))
def test_no_31_days_in_a_row_exceed_the_quota(sqlite_store: Store, visits: list[tuple[int, int]]) -> None:
    book, sent = Ledger(sqlite_store, uuid4().hex, "default", Limits(10, 0, 30, startup=1)), []
    moment = NOW
    for hours, wanted in visits:
        moment += hours * HOUR
        for _ in range(wanted):
            try:
                book.take("posts", moment, beyond_bucket=True)
            except NoBudget:
                break
            sent.append(moment)
    assert all(sum(begin <= each < begin + 31 * DAY for each in sent) <= 10 for begin in sent)


# --- one rate -----------------------------------------------------------------------------------------


def most_in_a_second(moments: list[datetime]) -> int:
    return max(sum(begin <= each < begin + SECOND for each in moments) for begin in moments)


def test_no_second_holds_more_than_the_rate(store: Store) -> None:
    book = ledger(store, None)
    moments = [book.take("posts", NOW + number * timedelta(milliseconds=5)) for number in range(70)]
    assert most_in_a_second(moments) <= 30
    assert moments[:BURST] == [NOW + number * timedelta(milliseconds=5) for number in range(BURST)]
    assert all(later - earlier > timedelta(seconds=1 / 30) for earlier, later in pairwise(moments[BURST:]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pauses=st.lists(st.sampled_from([0, 1, 20, 34, 60, 300, 900, 1001, 1500]), min_size=40, max_size=80))
def test_no_second_holds_more_however_requests_come(store: Store, pauses: list[int]) -> None:
    book = Ledger(store, uuid4().hex[:12], "default", Limits(None, 0, 30))
    now, moments = NOW, []
    for pause in pauses:
        now += timedelta(milliseconds=pause)
        moments.append(book.take("posts", now))
    assert most_in_a_second(sorted(moments)) <= 30


@pytest.mark.parametrize(
    ("since", "waits"),
    [
        (timedelta(0), True),
        (timedelta(seconds=-1), True),
        (timedelta(hours=-5), False),
        (HOUR, False),
    ],
)
def test_a_clock_that_jumps_keeps_nobody_waiting(store: Store, since: timedelta, waits: bool) -> None:
    book = ledger(store, None)
    for _ in range(BURST):
        book.take("posts", NOW)
    moment = book.take("posts", NOW + since)
    assert (moment > NOW + since) is waits
    assert moment - (NOW + since) < timedelta(seconds=60)


# --- closed by 429 ------------------------------------------------------------------------------------


def test_an_account_is_closed_for_longer_each_time(store: Store) -> None:
    book, moment = ledger(store, None), NOW
    for pause in (*REOPENING, REOPENING[-1]):
        assert book.close(moment) == moment + pause
        with pytest.raises(NoBudget, match="429") as caught:
            book.take("posts", moment + pause - SECOND)
        assert caught.value.until == moment + pause
        moment += pause
        book.take("posts", moment)
        assert book.balance(moment).refused
    book.opened()
    assert not book.balance(moment).refused
    assert book.close(moment) == moment + REOPENING[0]


def test_refusals_of_requests_under_way_together_close_it_once(store: Store) -> None:
    book = ledger(store)
    book.take("posts", NOW)
    assert book.close(NOW) == book.close(NOW + SECOND) == ledger(store, name="two").close(NOW + SECOND)
    assert book.balance(NOW).closed_until == NOW + REOPENING[0]


def test_a_clock_set_back_does_not_keep_it_closed(store: Store) -> None:
    book = ledger(store)
    book.close(NOW)
    book.take("posts", NOW - 10 * DAY)
    assert book.balance(NOW - 10 * DAY).closed_until is None


# --- at once ------------------------------------------------------------------------------------------


def test_processes_together_spend_the_quota_exactly(store: Store, database_url: str) -> None:
    moments = race(spend, database_url, ["one", "two", "three"])
    every = sorted(chain.from_iterable(moments))
    assert len(every) == 100
    assert max(sum(begin <= each < begin + 1 for each in every) for begin in every) <= 30
    assert ledger(store, 110, 10).balance(NOW).used == 100


def test_a_run_that_lost_its_lease_spends_nothing(store: Store, fence: Fence) -> None:
    leases.acquire(store, "default", this_process(), NOW + DAY)
    book = ledger(store)
    with pytest.raises(Busy):
        book.take("posts", NOW, fence)
    assert book.balance(NOW).used == 0


def test_spending_renews_the_lease(store: Store, fence: Fence) -> None:
    ledger(store).take("posts", NOW + timedelta(seconds=59), fence)
    elsewhere = this_process().__class__("e", "m", "b", "s", 1, "1")
    with pytest.raises(Busy):
        leases.acquire(store, "default", elsewhere, NOW + timedelta(seconds=70))


# --- a month whose first day was told -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "day", "start", "end"),
    [
        ("2026-03-01T00:00:00", 1, "2026-03-01", "2026-04-01"),
        ("2026-03-31T23:59:59", 1, "2026-03-01", "2026-04-01"),
        ("2026-03-14T12:00:00", 15, "2026-02-15", "2026-03-15"),
        ("2026-01-02T00:00:00", 15, "2025-12-15", "2026-01-15"),
        ("2026-12-20T00:00:00", 15, "2026-12-15", "2027-01-15"),
        ("2026-02-28T00:00:00", 31, "2026-02-28", "2026-03-31"),
        ("2028-02-28T00:00:00", 30, "2028-01-30", "2028-02-29"),
        ("2028-02-29T00:00:00", 30, "2028-02-29", "2028-03-30"),
    ],
)
def test_periods_turn_on_the_day_told(now: str, day: int, start: str, end: str) -> None:
    found = turns(datetime.fromisoformat(now).replace(tzinfo=UTC), day)
    assert [moment.date().isoformat() for moment in found] == [start, end]


def test_a_told_month_is_spent_within_its_own_days(store: Store) -> None:
    book = Ledger(store, "acct", "default", Limits(3, 0, 30, period_day=10, startup=1))
    begins = datetime(2026, 2, 10, tzinfo=UTC)
    ninth, tenth = datetime(2026, 3, 9, 23, tzinfo=UTC), datetime(2026, 3, 10, tzinfo=UTC)
    book.take("posts", begins)
    assert take_all(book, ninth) == 2
    with pytest.raises(NoBudget) as caught:
        book.take("posts", ninth, beyond_bucket=True)
    assert caught.value.until == tenth
    balance = book.balance(tenth)
    assert (balance.used, balance.since, balance.until) == (0, tenth, datetime(2026, 4, 10, tzinfo=UTC))
    assert take_all(book, tenth) == 3
    # A clock set back finds what both months have spent.
    assert book.balance(ninth).used == 6


def told(store: Store) -> Ledger:
    return Ledger(store, "acct", "default", Limits(1_000, 0, 30, period_day=10))


def test_the_turn_of_the_month_opens_a_closed_account(store: Store) -> None:
    book, turn = told(store), datetime(2026, 3, 10, tzinfo=UTC)
    closed = turn - 4 * HOUR
    for pause in REOPENING[:3]:
        assert book.close(closed) == closed + pause
        closed += pause
    assert book.close(closed) == turn
    with pytest.raises(NoBudget, match="429") as caught:
        book.take("posts", turn - SECOND)
    assert caught.value.until == turn
    assert book.balance(turn - SECOND).refused
    assert (book.balance(turn).closed_until, book.balance(turn).refused) == (None, False)
    book.take("posts", turn)
    assert book.close(turn) == turn + REOPENING[0]
    assert book.close(turn + REOPENING[0]) == turn + REOPENING[0] + REOPENING[1]


def test_a_closing_from_before_the_day_was_told_ends_at_the_turn(store: Store) -> None:
    turn = datetime(2026, 3, 10, tzinfo=UTC)
    ledger(store, 1_000).close(turn - SECOND)
    assert told(store).balance(turn - SECOND).closed_until == turn


def test_what_a_backfill_takes_comes_out_of_the_month_and_not_out_of_the_bucket(store: Store) -> None:
    book = Ledger(store, "acct", "default", Limits(1_000, 0, 30, startup=0.2))
    book.take("posts", NOW)
    before = book.balance(NOW)
    assert before.level is not None
    assert before.per_day is not None
    for _ in range(100):
        book.take("backfill", NOW, beyond_bucket=True)
    after = book.balance(NOW)
    assert after.level == before.level
    assert after.left == 899
    # For a month less comes in, so that the syncs are never out of requests altogether.
    assert after.per_day == pytest.approx(before.per_day * 0.9, rel=0.01)
    later = book.balance(NOW + 32 * DAY)
    assert later.per_day == pytest.approx(1_000 / 32, rel=0.01)

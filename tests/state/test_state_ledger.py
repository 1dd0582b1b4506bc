"""The ledger: the quota is never overdrawn, and all processes keep to one rate together.

What is at hand of the quota is the matter of test_state_bucket.py; here all of it is, or a person asks.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.domain.budget import REOPENING, Limits
from connector.domain.period import month_at
from connector.errors import Busy, ConnectorError, NoBudget, NotSent, Stopped, TooMany, Transient
from connector.state import leases
from connector.state.engine import Database, open_database
from connector.state.leases import Lease, this_process
from connector.state.ledger import Ledger
from connector.state.spending import BURST
from tests.state.racers import hesitate, make_ready, race, spend
from tests.state.times import DAY, HOUR, NOW, SECOND


def ledger(database: Database, requests: int | None = 3, reserve: int = 0, name: str = "default") -> Ledger:
    return Ledger(database, "acct", name, Limits(requests, reserve, 30, startup=1))


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
def test_what_may_be_spent(database: Database, requests: int, reserve: int, got: int) -> None:
    book = ledger(database, requests, reserve)
    assert take_all(book, NOW) == got
    balance = book.balance(NOW)
    assert (balance.used, balance.left, dict(balance.by_purpose)) == (
        got,
        0,
        {"comments": got} if got else {},
    )


def test_without_a_limit_everything_is_counted(database: Database) -> None:
    book = ledger(database, None)
    for purpose in ("posts", "nps", "posts"):
        book.take(purpose, NOW)
    balance = book.balance(NOW)
    assert (balance.used, balance.left) == (3, None)
    assert balance.by_purpose == {"posts": 2, "nps": 1}


def test_connections_of_an_account_share_its_quota(database: Database) -> None:
    ledger(database, name="one").take("posts", NOW)
    assert take_all(ledger(database, name="two"), NOW) == 2
    assert take_all(Ledger(database, "another", "one", Limits(3, 0, 30)), NOW) == 3


def test_what_is_refused_costs_nothing(database: Database) -> None:
    book = ledger(database, 1)
    first = book.take("posts", NOW).at
    take_all(book, NOW)
    assert ledger(database, None).take("posts", NOW).at - first < timedelta(seconds=0.04)


# --- given back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "beyond_bucket", "startup"),
    [("posts", False, 1), ("check posts", True, 1), ("check posts", True, 0.3), ("backfill", False, 1)],
)
@pytest.mark.parametrize("day", [None, 20])
def test_what_was_never_sent_leaves_the_budget_as_it_was(
    database: Database, purpose: str, beyond_bucket: bool, startup: float, day: int | None
) -> None:
    book = Ledger(database, "acct", "default", Limits(5, 0, 30, period_day=day, startup=startup))
    book.give_back(book.take("posts", NOW))
    before = book.balance(NOW)
    for _ in range(8):
        book.give_back(book.take(purpose, NOW, beyond_bucket=beyond_bucket))
    after = book.balance(NOW)
    assert (after.used, after.left, after.by_purpose) == (0, before.left, {})
    assert after.level == pytest.approx(before.level)


@pytest.mark.parametrize(
    ("error", "used"),
    [
        (NotSent("refused"), 0),
        (Stopped("a signal"), 0),
        (Transient("reset"), 1),
        (TooMany("429"), 1),
        (None, 1),
    ],
)
@pytest.mark.parametrize("requests", [3, None])
def test_only_what_was_never_sent_is_given_back(
    database: Database, error: ConnectorError | None, used: int, requests: int | None
) -> None:
    book = ledger(database, requests)
    with suppress(ConnectorError), book.taken("posts", NOW) as at:
        assert at == NOW
        if error:
            raise error
    assert book.balance(NOW).used == used


def test_each_gives_back_its_own(database: Database) -> None:
    """Of two days, two connections and two purposes; and never what was not taken."""
    mine, theirs = ledger(database, 10, name="one"), ledger(database, 10, name="two")
    charge = mine.take("posts", NOW - DAY)
    for book, purpose in ((mine, "posts"), (mine, "nps"), (theirs, "posts")):
        book.take(purpose, NOW)
    mine.give_back(charge)
    assert mine.balance(NOW).by_purpose == {"posts": 2, "nps": 1}
    mine.give_back(charge)
    assert mine.balance(NOW).by_purpose == {"posts": 2, "nps": 1}
    Ledger(database, "unknown", "one", Limits(10, 0, 30)).give_back(charge)
    assert mine.balance(NOW).used == 3


def test_giving_back_from_several_processes_loses_nothing(database_url: str) -> None:
    make_ready(database_url, 1)
    assert race(hesitate, database_url, ["one", "two", "three"]) == ["gave back"] * 3
    database = open_database(database_url)
    assert ledger(database, None).balance(NOW).used == 3 * 20
    database.close()


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
def test_how_long_a_request_counts(database: Database, since: timedelta, left: int) -> None:
    late = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    assert take_all(ledger(database), late) == 3
    assert take_all(ledger(database), late + since) == left


def test_it_says_when_there_is_budget_again(database: Database) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    book = ledger(database, 5)
    for moment in (day, day + 2 * DAY, day + 2 * DAY, day + 3 * DAY, day + 3 * DAY):
        book.take("posts", moment)
    with pytest.raises(NoBudget, match="monthly limit") as caught:
        book.take("posts", NOW + 4 * DAY, beyond_bucket=True)
    assert caught.value.until == day + 32 * DAY
    # With a lower limit the oldest day frees nothing yet.
    with pytest.raises(NoBudget) as caught:
        ledger(database, 3).take("posts", NOW + 4 * DAY, beyond_bucket=True)
    assert caught.value.until == day + 34 * DAY
    assert take_all(ledger(database, 3), day + 34 * DAY) == 1
    with pytest.raises(NoBudget) as caught:
        ledger(database, 0).take("posts", NOW)
    assert caught.value.until is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 9)), max_size=25))
def test_no_31_days_in_a_row_exceed_the_quota(sqlite_store: Database, visits: list[tuple[int, int]]) -> None:
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


def test_no_second_holds_more_than_the_rate(database: Database) -> None:
    book = ledger(database, None)
    moments = [book.take("posts", NOW + number * timedelta(milliseconds=5)).at for number in range(70)]
    assert most_in_a_second(moments) <= 30
    assert moments[:BURST] == [NOW + number * timedelta(milliseconds=5) for number in range(BURST)]
    assert all(later - earlier > timedelta(seconds=1 / 30) for earlier, later in pairwise(moments[BURST:]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pauses=st.lists(st.sampled_from([0, 1, 20, 34, 60, 300, 900, 1001, 1500]), min_size=40, max_size=80))
def test_no_second_holds_more_however_requests_come(database: Database, pauses: list[int]) -> None:
    book = Ledger(database, uuid4().hex[:12], "default", Limits(None, 0, 30))
    now, moments = NOW, []
    for pause in pauses:
        now += timedelta(milliseconds=pause)
        moments.append(book.take("posts", now).at)
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
def test_a_clock_that_jumps_keeps_nobody_waiting(database: Database, since: timedelta, waits: bool) -> None:
    book = ledger(database, None)
    for _ in range(BURST):
        book.take("posts", NOW)
    moment = book.take("posts", NOW + since).at
    assert (moment > NOW + since) is waits
    assert moment - (NOW + since) < timedelta(seconds=60)


# --- closed by 429 ------------------------------------------------------------------------------------


def test_an_account_is_closed_for_longer_each_time(database: Database) -> None:
    book, moment = ledger(database, None), NOW
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


def test_refusals_of_requests_under_way_together_close_it_once(database: Database) -> None:
    book = ledger(database)
    book.take("posts", NOW)
    assert book.close(NOW) == book.close(NOW + SECOND) == ledger(database, name="two").close(NOW + SECOND)
    assert book.balance(NOW).closed_until == NOW + REOPENING[0]


def test_a_clock_set_back_does_not_keep_it_closed(database: Database) -> None:
    book = ledger(database)
    book.close(NOW)
    book.take("posts", NOW - 10 * DAY)
    assert book.balance(NOW - 10 * DAY).closed_until is None


# --- at once ------------------------------------------------------------------------------------------


def test_processes_together_spend_the_quota_exactly(database: Database, database_url: str) -> None:
    moments = race(spend, database_url, ["one", "two", "three"])
    every = sorted(chain.from_iterable(moments))
    assert len(every) == 100
    assert max(sum(begin <= each < begin + 1 for each in every) for begin in every) <= 30
    assert ledger(database, 110, 10).balance(NOW).used == 100


def test_a_run_that_lost_its_lease_spends_nothing(database: Database, lease: Lease) -> None:
    leases.acquire(database, "default", this_process(), NOW + DAY)
    book = ledger(database)
    with pytest.raises(Busy):
        book.take("posts", NOW, lease)
    assert book.balance(NOW).used == 0


def test_spending_renews_the_lease(database: Database, lease: Lease) -> None:
    ledger(database).take("posts", NOW + timedelta(seconds=59), lease)
    elsewhere = this_process().__class__("e", "m", "b", "s", 1, "1")
    with pytest.raises(Busy):
        leases.acquire(database, "default", elsewhere, NOW + timedelta(seconds=70))


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
    found = month_at(datetime.fromisoformat(now).replace(tzinfo=UTC), day)
    assert [moment.date().isoformat() for moment in found] == [start, end]


def test_a_told_month_is_spent_within_its_own_days(database: Database) -> None:
    book = Ledger(database, "acct", "default", Limits(3, 0, 30, period_day=10, startup=1))
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


def answered(database: Database) -> Ledger:
    return Ledger(database, "acct", "default", Limits(1_000, 0, 30, period_day=10))


def test_the_turn_of_the_month_opens_a_closed_account(database: Database) -> None:
    book, turn = answered(database), datetime(2026, 3, 10, tzinfo=UTC)
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


def test_a_closing_from_before_the_day_was_told_ends_at_the_turn(database: Database) -> None:
    turn = datetime(2026, 3, 10, tzinfo=UTC)
    ledger(database, 1_000).close(turn - SECOND)
    assert answered(database).balance(turn - SECOND).closed_until == turn


def test_what_a_backfill_takes_comes_out_of_the_month_and_not_out_of_the_bucket(database: Database) -> None:
    book = Ledger(database, "acct", "default", Limits(1_000, 0, 30, startup=0.2))
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


# --- clocks that are set ------------------------------------------------------------------------------


def ran(
    book: Ledger,
    now: datetime,
    off: timedelta,
    *,
    dated: bool = True,
    most: int = 20,
    beyond_bucket: bool = False,
) -> int:
    """A run as the ledger sees it, by a clock that is `off`: one request after the other is answered."""
    count = 0
    with suppress(NoBudget):
        while count < most:
            book.take("posts", now + off, beyond_bucket=beyond_bucket)
            count += 1
            book.note_beamer_time(now.replace(microsecond=0) if dated else None, now + off)
    return count


def most_in_a_month(sent: Mapping[datetime, int], day: int | None) -> int:
    """By Beamer's clock: in a month that begins on a day, or in any 31 days."""
    if day is not None:
        months: Counter[datetime] = Counter()
        for moment, count in sent.items():
            months[month_at(moment, day)[0]] += count
        return max(months.values())
    moments = sorted(sent)
    return max(
        sum(sent[each] for each in moments if begin <= each < begin + 31 * DAY) for begin in moments[::12]
    )


# By how much the clock is off in the n-th run.
PATTERNS: dict[str, Callable[[int], timedelta]] = {
    "right": lambda _: 0 * DAY,
    "every fifth ahead by days": lambda run: (run % 5 == 4) * 9 * DAY,
    "every sixth ahead by a month": lambda run: (run % 6 == 5) * 31 * DAY,
    "every fifth ahead by ever more": lambda run: (run % 5 == 4) * (run % 50) * DAY,
    "every fifth back by a month": lambda run: (run % 5 == 4) * -31 * DAY,
    "every sixth to and fro": lambda run: (run % 6 == 5) * (33 if run % 12 == 5 else -33) * DAY,
    "ahead by hours, always": lambda _: 7 * HOUR,
    "back by days, always": lambda _: -3 * DAY,
    "ahead by a month for weeks": lambda run: (200 < run < 400) * 31 * DAY,
    "back for weeks": lambda run: (200 < run < 400) * -20 * DAY,
    "1970": lambda run: (run % 7 == 3) * -20_000 * DAY,
}


@pytest.mark.parametrize("day", [None, 1, 17])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.slow
def test_no_clock_opens_a_month(database: Database, pattern: str, day: int | None) -> None:
    """Three months, a run every four hours, as many requests as there are."""
    limits = Limits(100, 0, 30, day)
    sent: Counter[datetime] = Counter()
    for run in range(3 * 31 * 6):
        now = NOW + run * 4 * HOUR
        book = Ledger(database, "acct", "default", limits)
        sent[now] += ran(book, now, PATTERNS[pattern](run))
    assert most_in_a_month(sent, day) <= 100
    # Nor does one lock the budget: it is spent as by a clock that is right.
    assert sum(sent.values()) >= 0.85 * 100 * 3
    assert sum(count for moment, count in sent.items() if moment >= NOW + 80 * DAY) >= 20


@pytest.mark.parametrize("day", [None, 1])
def test_an_honest_month_changes_without_another_request(database: Database, day: int | None) -> None:
    limits, spent = Limits(50, 0, 30, day, startup=1), []
    for month in range(3):
        begins = datetime(2026, 3 + month, 1, tzinfo=UTC) if day else NOW + month * 33 * DAY
        book = Ledger(database, "acct", "default", limits)
        with suppress(NoBudget):
            while True:
                book.take("backfill", begins, beyond_bucket=True)
                book.note_beamer_time(begins, begins)
                spent.append(begins)
    assert [spent.count(begins) for begins in dict.fromkeys(spent)] == [50, 50, 50]


@pytest.mark.parametrize("ahead", [DAY, 31 * DAY, 300 * DAY])
@pytest.mark.parametrize("reserve", [0, 5])
def test_of_a_spent_month_one_request_asks_whether_the_next_has_begun(
    database: Database, ahead: timedelta, reserve: int
) -> None:
    limits = Limits(10 + reserve, reserve, 30, 1, startup=1)

    def runs(now: datetime, off: timedelta) -> int:
        return ran(Ledger(database, "acct", "default", limits), now, off, beyond_bucket=True)

    now, april = datetime(2026, 3, 31, 12, tzinfo=UTC), datetime(2026, 4, 1, 0, 5, tzinfo=UTC)
    assert runs(datetime(2026, 3, 1, tzinfo=UTC), 0 * DAY) == 10
    # One request tells that March goes on; the same clock asks no second time.
    assert runs(now, ahead) == 1
    for hour in range(5):
        assert runs(now + hour * HOUR, ahead) == 0
        assert runs(now + hour * HOUR, 0 * DAY) == 0
    # That request counts in March alone.
    assert runs(april, 0 * DAY) == 10


def test_an_unanswered_question_is_not_asked_twice_in_a_run(database: Database) -> None:
    limits = Limits(10, 0, 30, 1, startup=1)
    march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 20, tzinfo=UTC)
    assert ran(Ledger(database, "acct", "default", limits), march, 0 * DAY) == 10
    book = Ledger(database, "acct", "default", limits)
    book.take("posts", april)
    with pytest.raises(NoBudget):
        book.take("posts", april)
    book.note_beamer_time(april, april)
    book.take("posts", april)


@pytest.mark.parametrize("off", [5 * HOUR, -5 * HOUR, 40 * DAY])
@pytest.mark.parametrize("day", [None, 1])
def test_one_machine_of_two_has_another_clock(database: Database, off: timedelta, day: int | None) -> None:
    limits, sent = Limits(100, 0, 30, day, startup=1), Counter[datetime]()
    for run in range(2 * 31 * 4):
        now = NOW + run * 6 * HOUR
        for name, skew in (("one", 0 * DAY), ("two", off)):
            sent[now] += ran(Ledger(database, "acct", name, limits), now, skew, most=3)
    assert most_in_a_month(sent, day) <= 100
    assert sum(sent.values()) >= 170


def test_without_dates_this_machines_clock_counts(database: Database) -> None:
    limits = Limits(10, 0, 30, 1, startup=1)

    def runs(now: datetime) -> int:
        return ran(Ledger(database, "acct", "default", limits), now, 0 * DAY, dated=False, beyond_bucket=True)

    march, april, may = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))
    assert [runs(march), runs(april - SECOND), runs(april)] == [10, 0, 10]
    # Nor if there were dates once.
    Ledger(database, "acct", "default", limits).note_beamer_time(april + DAY, april + DAY)
    assert [runs(may - SECOND), runs(may)] == [0, 10]


@pytest.mark.parametrize(
    "dates",
    [
        [datetime(1970, 1, 1, tzinfo=UTC)] * 5,
        [datetime(2099, 1, 1, tzinfo=UTC)] * 5,
        [NOW + DAY],
        [NOW + 31 * DAY, NOW + 31 * DAY],
        [NOW + HOUR, NOW + 2 * HOUR, NOW - HOUR, NOW + DAY],
        [None, NOW + DAY, None],
    ],
)
def test_an_odd_date_is_not_believed(database: Database, dates: list[datetime | None]) -> None:
    book = ledger(database, 100)
    book.take("posts", NOW)
    book.note_beamer_time(NOW, NOW)
    for date in dates:
        book.note_beamer_time(date, NOW)
        assert book.ahead == timedelta(0)
        assert book.beamer_now(NOW) == NOW
    # What persists is believed, and the clock of this machine is as soon as it agrees.
    for _ in range(3):
        book.note_beamer_time(NOW + 5 * HOUR, NOW)
    assert book.ahead == 5 * HOUR
    assert Ledger(database, "acct", "two", Limits(3, 0, 30)).beamer_now(NOW + HOUR) >= NOW
    book.note_beamer_time(NOW, NOW)
    assert book.ahead == timedelta(0)

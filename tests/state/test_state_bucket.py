"""The bucket: a month's quota is spent evenly, and what the ledger's hard limit says stays above it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from connector.domain import budget
from connector.domain.budget import SKEW, Bucket, Limits, Month, Steady, Stretch
from connector.domain.period import month_at
from connector.errors import ConfigurationError, NoBudget
from connector.state.engine import Database
from connector.state.ledger import Ledger
from tests.state.times import DAY, HOUR, NOW, SECOND

MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))
MIDDLE = MARCH + 15.5 * DAY


# --- the rules, without a database -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "startup", "found"),
    [
        (950, 0.2, 190),
        (950, 1, 950),
        (950, 0, 1),
        (3, 0.2, 1),
        (1, 1, 1),
        (0, 0.2, 0),
    ],
)
def test_what_a_new_account_finds(left: int, startup: float, found: float) -> None:
    assert budget.grant(left, startup) == found


@pytest.mark.parametrize(
    ("began", "found"),
    [
        (MARCH, 0),
        (MIDDLE, 155),
        (APRIL - SECOND, 310),
        (APRIL, 0),
        (MARCH - SECOND, 0),
    ],
)
def test_what_counts_as_spent_before_an_account_began(began: datetime, found: int) -> None:
    assert budget.assumed(310, MARCH, APRIL, began) == found


def month(used: int = 0, assumed: int = 0) -> Month:
    """310 usable requests, ten a day."""
    return Month(MARCH, APRIL, 310, used, assumed)


APRILS = Month(APRIL, MAY, 300)
ROLLING = budget.rolling(320, 0.5, MARCH)


@pytest.mark.parametrize(
    ("level", "at", "now", "stretches", "found"),
    [
        # Evenly over a month.
        (0, MARCH, MARCH + DAY, [month()], 10),
        (0, MARCH, MARCH + HOUR, [month()], 10 / 24),
        (5, MARCH, MARCH + 0.5 * DAY, [month()], 5 + 305 / 62),
        # What is left, over the time that is left.
        (0, MIDDLE, MIDDLE + DAY, [month(used=155)], 10),
        (0, MIDDLE, MIDDLE + DAY, [month()], 20),
        (0, MIDDLE, MIDDLE + DAY, [month(used=100, assumed=55)], 10),
        (0, MIDDLE, MIDDLE + DAY, [month(used=310)], 0),
        (0, MIDDLE, MIDDLE + DAY, [month(used=999)], 0),
        (4, MIDDLE, MIDDLE + DAY, [month(used=308)], 4),
        # No more gathers than eight days' worth; what is above it stays.
        (0, MARCH, MARCH + 20 * DAY, [month()], 80),
        (92, MARCH, MARCH + 20 * DAY, [month()], 92),
        # Over a turn.
        (0, APRIL - DAY, APRIL, [month(used=300), APRILS], 10),
        (0, APRIL - DAY, APRIL + 0.5 * DAY, [month(used=300), APRILS], 10 + 290 / 60),
        (0, APRIL - DAY, APRIL + DAY, [month(used=310), APRILS], 10),
        (100, APRIL - DAY, APRIL, [month(used=210), APRILS], 80),
        # With a month in between.
        (0, MARCH, MAY + DAY, [month(310), APRILS, Month(MAY, MAY + 31 * DAY, 310)], 80),
        # Until the month is told: slower for as long as the grant counts.
        (0, MARCH, MARCH + DAY, ROLLING, 5),
        (0, MARCH + 31 * DAY, MARCH + 33 * DAY, ROLLING, 15),
        (0, MAY, MAY + DAY, ROLLING, 10),
        (0, MAY, MAY + 19 * DAY, ROLLING, 80),
        (160, MARCH, MARCH + 40 * DAY, ROLLING, 160),
        # A clock that is behind.
        (7, MAY, MAY - 400 * DAY, ROLLING, 7),
        (7, APRIL + DAY, APRIL - DAY, [month(), APRILS], 7),
    ],
)
def test_filling(level: float, at: datetime, now: datetime, stretches: list[Stretch], found: float) -> None:
    full = Bucket(level, at).filled(now, stretches)
    assert full.at == now
    assert full.level == pytest.approx(found)


def test_it_matters_not_how_often_it_is_looked_at() -> None:
    once = Bucket(0, MARCH).filled(MARCH + 2 * DAY, [month(used=7)])
    often = Bucket(0, MARCH)
    for hour in range(1, 49):
        often = often.filled(MARCH + hour * HOUR, [month(used=7)])
    assert often.level == pytest.approx(once.level)


def test_a_small_quota_gathers_a_whole_request() -> None:
    small = Month(MARCH, APRIL, 2)
    assert Bucket(0, MARCH).filled(MARCH + 20 * DAY, [small]).level == 1
    assert Bucket(0, MARCH).filled(MARCH + 40 * DAY, budget.rolling(2, 0, MARCH)).level == 1


@pytest.mark.parametrize(
    ("behind", "goes_on_from"),
    [(SECOND, MAY), (SKEW, MAY), (SKEW + SECOND, MAY - SKEW - SECOND), (30 * DAY, MAY - 30 * DAY)],
)
def test_a_little_skew_fills_nothing_twice(behind: timedelta, goes_on_from: datetime) -> None:
    assert Bucket(3, MAY).filled(MAY - behind, ROLLING) == Bucket(3, goes_on_from)


@pytest.mark.parametrize(
    ("level", "at", "stretches", "found"),
    [
        (2, MARCH, [month()], MARCH),
        (0, MARCH, [month(), APRILS], MARCH + DAY / 10),
        (0.5, MIDDLE, [month(used=155), APRILS], MIDDLE + DAY * (15.5 * 0.5 / 154.5)),
        # Not before the next month.
        (0, MIDDLE, [month(used=310), APRILS], APRIL + DAY / 10),
        (0.5, MIDDLE, [month(used=400), APRILS], APRIL + DAY * (30 * 0.5 / 299.5)),
        (0, MARCH, ROLLING, MARCH + DAY / 5),
        (0, MARCH, budget.rolling(320, 1, MARCH), MARCH + 32 * DAY + DAY / 10),
        (0, MARCH, budget.rolling(0, 1, MARCH), None),
        (0, MARCH, [Month(MARCH, APRIL, 0), Month(APRIL, MAY, 0)], None),
    ],
)
def test_when_it_holds_a_request(
    level: float, at: datetime, stretches: list[Stretch], found: datetime | None
) -> None:
    until = Bucket(level, at).holds_one(stretches)
    assert (until is None) is (found is None)
    if until and found:
        assert timedelta(0) <= until - found <= SECOND
        assert Bucket(level, at).filled(until, stretches).level >= 1


def test_drawing_never_leaves_less_than_nothing() -> None:
    assert [Bucket(level, NOW).drawn().level for level in (2.5, 1, 0.5, 0)] == [1.5, 0, 0, 0]
    assert isinstance(ROLLING[0], Steady)


# --- in the database -------------------------------------------------------------------------------------


def ledger(
    database: Database,
    requests: int | None = 310,
    name: str = "default",
    account: str = "acct",
    **limits: Any,
) -> Ledger:
    return Ledger(database, account, name, Limits(requests, 0, 30, **{"startup": 0.2, **limits}))


def take_all(book: Ledger, now: datetime, *, beyond_bucket: bool = False) -> int:
    """Take what there is; a refusal says when there is more, and costs nothing."""
    for count in range(10_000):
        try:
            book.take("posts", now, beyond_bucket=beyond_bucket)
        except NoBudget:
            before = book.balance(now)
            with pytest.raises(NoBudget):
                book.take("posts", now, beyond_bucket=beyond_bucket)
            assert book.balance(now) == before
            return count
    raise AssertionError


@pytest.mark.parametrize(
    ("limits", "now", "available"),
    [
        ({}, MARCH, 62),
        ({}, MIDDLE, 62),
        ({"startup": 0}, MARCH, 1),
        ({"startup": 1}, MARCH, 310),
        ({"period_day": 1}, MARCH, 62),
        ({"period_day": 1, "startup": 1}, MARCH, 310),
        # Half the month has gone by.
        ({"period_day": 1}, MIDDLE, 31),
        ({"period_day": 1, "startup": 1}, MIDDLE, 155),
    ],
)
def test_a_new_account_has_its_start_up_share(
    database: Database, limits: dict[str, Any], now: datetime, available: int
) -> None:
    book = ledger(database, **limits)
    promised = book.balance(now)
    assert promised.level == available
    assert take_all(book, now) == available
    balance = book.balance(now)
    assert (balance.used, balance.level) == (available, 0)
    assert promised.left is not None
    assert balance.left == promised.left - available
    assert balance.assumed == promised.assumed == 310 - promised.left


def test_connections_share_one_bucket(database: Database) -> None:
    assert take_all(ledger(database, name="one"), NOW) == 62
    assert take_all(ledger(database, name="two"), NOW) == 0


@pytest.mark.parametrize("limits", [{}, {"period_day": 1}, {"period_day": 1, "startup": 1}, {"startup": 1}])
def test_it_says_when_there_is_more(database: Database, limits: dict[str, Any]) -> None:
    book, now = ledger(database, **limits), MARCH
    for _ in range(4):
        take_all(book, now)
        with pytest.raises(NoBudget) as caught:
            book.take("posts", now)
        until = caught.value.until
        assert until is not None
        with pytest.raises(NoBudget):
            book.take("posts", until - 2 * SECOND)
        book.take("posts", until)
        now = until


def test_the_two_reasons_are_told_apart(database: Database) -> None:
    book = ledger(database)
    take_all(book, NOW)
    with pytest.raises(NoBudget, match="available now"):
        book.take("posts", NOW)
    take_all(book, NOW, beyond_bucket=True)
    with pytest.raises(NoBudget, match="monthly limit is used up"):
        book.take("posts", NOW)


def test_a_person_is_held_by_the_hard_limit_alone(database: Database) -> None:
    book = ledger(database, period_day=1)
    book.take("check", MARCH, beyond_bucket=True)
    assert book.balance(MARCH).level == 61
    take_all(book, MARCH)
    assert take_all(book, MARCH, beyond_bucket=True) == 310 - 62
    assert book.balance(MARCH).level == 0


def test_what_comes_in_is_shown(database: Database) -> None:
    book = ledger(database, period_day=1)
    assert book.balance(MARCH).per_day == pytest.approx((310 - 62) / 31)
    take_all(book, MARCH)
    balance = book.balance(MARCH + DAY)
    assert balance.level == pytest.approx(8)
    assert balance.per_day == pytest.approx(8)
    assert (balance.since, balance.until) == (MARCH, APRIL)
    rolling = Ledger(database, "other", "default", Limits(320, 0, 30, startup=0.2)).balance(MARCH)
    assert rolling.until is None
    assert rolling.per_day == pytest.approx(8)
    unlimited = ledger(database, None).balance(MARCH)
    assert (unlimited.level, unlimited.per_day, unlimited.left) == (None, None, None)


def test_without_a_limit_there_is_no_bucket_until_there_is_one(database: Database) -> None:
    for _ in range(100):
        ledger(database, None).take("posts", NOW)
    assert take_all(ledger(database), NOW + DAY) == 42


# --- what was used elsewhere --------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{}, {"period_day": 1}])
@pytest.mark.parametrize(("total", "elsewhere"), [(100, 90), (3, 0), (999, 989)])
def test_what_beamer_shows_counts(
    database: Database, limits: dict[str, Any], total: int, elsewhere: int
) -> None:
    book = ledger(database, **limits)
    for _ in range(10):
        book.take("posts", MIDDLE)
    since = None if limits else MARCH
    book.set_used(500, MIDDLE, since)
    book.set_used(total, MIDDLE + DAY, since)
    balance = book.balance(MIDDLE + DAY)
    assert balance.by_purpose == {"posts": 10, **({"elsewhere": elsewhere} if elsewhere else {})}
    assert (balance.used, balance.assumed) == (10 + elsewhere, 0)
    assert balance.left == max(0, 310 - 10 - elsewhere)
    assert balance.level is not None
    assert balance.level <= balance.left
    assert take_all(book, MIDDLE + DAY, beyond_bucket=True) == balance.left


def test_what_was_told_takes_the_place_of_the_guess_from_the_first_request_on(database: Database) -> None:
    book = ledger(database, period_day=1, startup=1)
    book.set_used(10, MIDDLE)
    assert book.balance(MIDDLE).level == 300
    assert take_all(book, MIDDLE) == 300


def test_what_was_told_is_forgotten_with_its_month(database: Database) -> None:
    for day, gone in ((1, APRIL), (None, MIDDLE + 32 * DAY)):
        book = ledger(database, period_day=day)
        book.set_used(310, MIDDLE)
        assert book.balance(gone - DAY).left == 0
        assert book.balance(gone).left == 310


def test_what_was_told_slows_the_filling(database: Database) -> None:
    book = ledger(database, 320, startup=0)
    book.take("posts", MARCH)
    book.set_used(161, MARCH)
    assert book.balance(MARCH).per_day == pytest.approx(159 / 32)


@pytest.mark.parametrize("earlier", [DAY, 31 * DAY])
def test_a_number_of_an_unknown_month_is_refused_once_something_was_spent_before(
    database: Database, earlier: timedelta
) -> None:
    book = ledger(database)
    book.take("posts", MIDDLE - earlier)
    book.take("posts", MIDDLE)
    with pytest.raises(ConfigurationError, match=r"requests? on earlier days") as caught:
        book.set_used(300, MIDDLE)
    assert "BEAMER_PERIOD_DAY" in caught.value.todo
    assert "--since" in caught.value.todo
    assert book.balance(MIDDLE).by_purpose == {"posts": 2}
    book.set_used(300, MIDDLE, MIDDLE)
    assert book.balance(MIDDLE).by_purpose == {"posts": 2, "elsewhere": 299}


def test_what_was_spent_longer_ago_is_no_part_of_the_number(database: Database) -> None:
    book = ledger(database)
    book.take("posts", MIDDLE - 32 * DAY)
    book.set_used(300, MIDDLE)
    assert book.balance(MIDDLE).by_purpose == {"elsewhere": 300}


def test_what_others_spent_is_not_set_off_against_our_own_month_before(database: Database) -> None:
    """Beamer's month turns in the middle of ours: of the young month's number little is ours."""
    book = ledger(database, 1_000)
    for day in range(31):
        for _ in range(20):
            book.take("posts", MARCH + day * DAY, beyond_bucket=True)
    turn, now = MARCH + 28 * DAY, MARCH + 30 * DAY
    book.set_used(3 * 20 + 330, now, turn)
    assert book.balance(now).by_purpose == {"posts": 620, "elsewhere": 330}
    assert book.balance(now).left == 1_000 - 620 - 330
    # Told again, it is replaced; what was told of days before stays.
    book.set_used(3 * 20 + 340, now + HOUR, turn)
    assert book.balance(now).by_purpose["elsewhere"] == 340
    book.set_used(7, now + DAY, now + DAY)
    assert book.balance(now + DAY).by_purpose["elsewhere"] == 347


@pytest.mark.parametrize(
    ("day", "since", "said"),
    [
        (None, MIDDLE + DAY, "cannot have begun on"),
        (None, MIDDLE - 32 * DAY, "cannot have begun on"),
        (1, MARCH + DAY, "According to BEAMER_PERIOD_DAY, the month began on 2026-03-01"),
    ],
)
def test_a_first_day_that_cannot_be(database: Database, day: int | None, since: datetime, said: str) -> None:
    book = ledger(database, period_day=day)
    with pytest.raises(ConfigurationError, match=said):
        book.set_used(5, MIDDLE, since)
    assert book.balance(MIDDLE).by_purpose == {}
    book.set_used(5, MIDDLE, MARCH)
    assert book.balance(MIDDLE).by_purpose == {"elsewhere": 5}


# --- settings that change, and clocks -----------------------------------------------------------------


def test_other_figures_count_from_the_next_request_on(database: Database) -> None:
    take_all(ledger(database), MARCH)
    later = MARCH + DAY
    assert take_all(ledger(database, 3_100), later) == pytest.approx(3_100 * 0.8 / 32, abs=1)
    assert take_all(ledger(database, 100), later) == 0
    assert ledger(database, 100).balance(later).left == 0
    assert take_all(ledger(database, 62, startup=1), later, beyond_bucket=True) == 0
    # With the day told, what was spent since counts, and what is left comes in until the turn.
    book = ledger(database, 1_000, period_day=1)
    spent = book.balance(later).used
    assert take_all(book, MARCH + 2 * DAY) == pytest.approx((1_000 - spent) / 30, abs=1)


def test_a_smaller_plan_leaves_no_more_than_it_has(database: Database) -> None:
    ledger(database, 20_000).take("posts", NOW)
    assert take_all(ledger(database, 100), NOW) == 99


@pytest.mark.parametrize("limits", [{}, {"period_day": 1}])
@pytest.mark.parametrize("step", [-400 * DAY, -3 * DAY, -SECOND, DAY])
def test_a_clock_that_is_set_and_set_right_neither_gives_nor_takes_much(
    database: Database, limits: dict[str, Any], step: timedelta
) -> None:
    book, plain = ledger(database, **limits), ledger(database, account="plain", **limits)
    for each in (book, plain):
        take_all(each, MARCH)
        each.take("posts", MARCH + 2 * DAY)
    with suppress(NoBudget):
        book.take("posts", MARCH + 2 * DAY + step)
        plain.take("posts", MARCH + 2 * DAY)
    level, expected = (each.balance(MARCH + 2 * DAY + HOUR).level for each in (book, plain))
    assert level is not None
    assert expected is not None
    # At most what the bucket gathers came in twice.
    assert expected - 1 <= level <= expected + 80
    assert take_all(book, MARCH + 3 * DAY) >= 6


def test_an_account_that_began_by_a_clock_ahead_begins_again(database: Database) -> None:
    book = ledger(database, period_day=1)
    book.take("posts", MARCH + 30 * DAY)
    assert book.balance(MARCH + 30 * DAY).assumed == 300
    assert book.balance(MARCH + DAY).assumed == 10
    book.take("posts", MARCH + DAY)
    assert book.balance(MARCH + 30 * DAY).assumed == 10


# --- a month and more ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("period_day", "started"), [(None, NOW), (1, MARCH), (1, MIDDLE), (31, MIDDLE)])
def test_a_steady_taker_gets_its_quota_evenly(
    sqlite_store: Database, period_day: int | None, started: datetime
) -> None:
    """Hourly, all that there is."""
    book = Ledger(sqlite_store, "acct", "default", Limits(950, 0, 30, period_day))
    begins, ends = month_at(started, period_day) if period_day else (started, started + 31 * DAY)
    usable = 950 * (ends - started) / (ends - begins)
    days: Counter[int] = Counter()
    spent = at = 0
    while (now := started + at * HOUR) < ends + 31 * DAY:
        with suppress(NoBudget):
            while True:
                book.take("posts", now)
                days[at // 24] += 1
                spent += now < ends
        at += 1
    assert 0.95 * usable <= spent <= usable
    assert usable * 0.1 - 1 <= days.pop(0) <= usable * 0.1 + 62
    assert max(days.values()) <= 2 * 950 / 31
    assert min(days[day] for day in range(2, at // 24)) >= 20


class Crashing(Database):
    """A database whose machine stops just before what was written is kept."""

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as db:
            yield db
            raise KeyboardInterrupt


VISITS = st.lists(
    st.tuples(
        # Hours until the visit; a clock may be set back.
        st.one_of(st.integers(0, 200), st.integers(-1_500, 1_500)),
        st.integers(1, 25),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["taken", "taken", "crashed", "person", "told"]),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(visits=VISITS, day=st.sampled_from([None, 1, 15, 31]), startup=st.sampled_from([0, 0.2, 1]))
def test_whatever_happens_no_month_exceeds_the_limit(
    sqlite_store: Database, visits: list[tuple[int, int, str, str]], day: int | None, startup: float
) -> None:
    account, limits = uuid4().hex, Limits(20, 4, 30, day, startup)
    crashing = Crashing(sqlite_store.engine)
    now, sent = MIDDLE, []
    for hours, wanted, name, what in visits:
        now += hours * HOUR
        book = Ledger(crashing if what == "crashed" else sqlite_store, account, name, limits)
        if what == "told":
            with suppress(ConfigurationError):
                book.set_used(wanted, now)
        for _ in range(wanted):
            try:
                book.take("posts", now, beyond_bucket=what == "person")
            except (NoBudget, KeyboardInterrupt):
                break
            sent.append(now)
        level = book.balance(now).level
        assert level is not None
        assert 0 <= level <= 16
    if day is None:
        assert all(sum(begin <= each < begin + 31 * DAY for each in sent) <= 16 for begin in sent)
    else:
        assert all(count <= 16 for count in Counter(month_at(each, day) for each in sent).values())


@pytest.mark.parametrize(
    ("began", "told", "over"),
    [
        (MARCH, MARCH + 20 * DAY, APRIL),
        (MARCH, MARCH, APRIL),
        (MARCH, APRIL - SECOND, APRIL),
        (MARCH + 14 * DAY, MARCH + 25 * DAY, APRIL + 14 * DAY),
        (APRIL, MAY - DAY, MAY),
        (MARCH - 29 * DAY, MARCH - 9 * DAY, MARCH - DAY),
        (MARCH - 28 * DAY, MARCH - DAY, MARCH),
    ],
)  # fmt: skip
def test_a_number_of_a_month_counts_until_that_month_is_over(
    database: Database, began: datetime, told: datetime, over: datetime
) -> None:
    book = ledger(database)
    book.set_used(310, told, began)
    assert book.balance(told).left == book.balance(over - SECOND).left == 0
    with pytest.raises(NoBudget) as caught:
        book.take("posts", told, beyond_bucket=True)
    assert caught.value.until == over
    assert (book.balance(over).left, book.balance(over).by_purpose) == (310, {})
    book.take("posts", over)
    with pytest.raises(ConfigurationError, match="cannot have begun on"):
        book.set_used(310, over, began)


def test_a_number_of_a_month_counts_in_it_when_the_day_is_set_later(database: Database) -> None:
    ledger(database).set_used(300, MIDDLE, MARCH)
    assert ledger(database, period_day=1).balance(MIDDLE).left == 10
    assert ledger(database, period_day=1).balance(APRIL).left == 310

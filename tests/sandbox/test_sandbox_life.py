"""The company's life: pure, lifelike, and open to meddling."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.sandbox import STREAMS, Company, Row
from tests.sandbox import Sandbox

NOW = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
COMPANY = Company(seed=11, posts=20, requests=10, days=40, activity=2.0, deletions=0.1)


def told(row: Row) -> tuple[Any, ...]:
    return (row.id, row.parent_id, row.date, row.appears, row.deleted_at, row.hidden, repr(row.fields))


def everything(sandbox: Sandbox) -> list[tuple[Any, ...]]:
    return [told(row) for stream in STREAMS for row in sandbox.world.rows(stream)]


def grown(*steps: timedelta) -> Sandbox:
    sandbox = Sandbox(COMPANY, now=NOW)
    for step in steps:
        sandbox.advance(step)
    return sandbox


def test_the_size_of_the_steps_does_not_matter() -> None:
    whole = everything(grown(timedelta(days=3)))
    assert whole == everything(grown(*[timedelta(hours=1)] * 72))
    assert whole == everything(grown(timedelta(hours=17, minutes=3), timedelta(hours=54, minutes=57)))
    assert len(whole) > len(everything(grown()))


def test_meddling_does_not_change_the_course_of_life() -> None:
    meddled = Sandbox(COMPANY, now=NOW)
    post = meddled.world.add("posts", published="true")
    meddled.world.add("comments", post, text="by hand")
    meddled.advance(timedelta(days=2))
    born = [row for row in everything(meddled) if int(row[0], 16) < 500_000_000 or len(row[0]) == 24]
    assert born == everything(grown(timedelta(days=2)))


def test_another_seed_is_another_company() -> None:
    other = Sandbox(Company(seed=12, posts=20, requests=10, days=40), now=NOW)
    assert everything(other) != everything(grown())


def test_it_starts_with_what_was_asked_for() -> None:
    world = grown().world
    assert (len(world.rows("posts")), len(world.rows("feature_requests"))) == (20, 10)
    assert all(NOW - timedelta(days=40) <= row.appears <= NOW for row in world.rows("posts"))
    dates = [row.date for row in world.rows("posts")]
    assert len(set(dates)) == len(dates)


def test_children_come_after_their_parents_and_rarely_late() -> None:
    world = Sandbox(Company(activity=4.0, days=40, late=0.05)).world
    rows = [row for stream in STREAMS for row in world.rows(stream) if row.parent]
    assert all(row.parent and row.parent.date_s <= row.date_s <= row.appears_s for row in rows)
    late = [row for row in rows if row.date < row.appears]
    assert 0.03 < len(late) / len(rows) < 0.07
    assert max(row.appears_s - row.date_s for row in late) <= 72 * 3600


def test_rows_arrive_at_the_rate_that_the_world_tells() -> None:
    sandbox = Sandbox(Company(activity=6.0, posts=40, days=60))
    before = {stream: len(sandbox.world.rows(stream)) for stream in STREAMS}
    expected = dict.fromkeys(("reactions", "comments", "feature_request_votes", "nps"), 0.0)
    for _ in range(24 * 6):
        for stream in expected:
            expected[stream] += sandbox.world.rate(stream, at=sandbox.now() + timedelta(minutes=30))
        sandbox.advance(timedelta(hours=1))
    for stream, mean in expected.items():
        found = len(sandbox.world.rows(stream)) - before[stream]
        assert abs(found - mean) < 5 * mean**0.5 + 0.05 * mean, stream


def test_rates_fall_with_the_age_of_a_parent() -> None:
    world = grown().world
    post = next(row for row in world.rows("posts") if row.starts_s == row.date_s)
    young, old = (world.rate("comments", post.id, post.date + timedelta(days=days)) for days in (0, 20))
    assert young > 10 * old > 0
    assert world.rate("comments", post.id, post.date - timedelta(days=1)) == 0


def is_busy(row: Row) -> bool:
    return row.appears.weekday() < 5 and 8 <= row.appears.hour < 18


def test_at_night_and_at_weekends_little_happens_and_as_much_in_a_month() -> None:
    usual, office = (
        Sandbox(Company(seed=5, posts=40, days=112, office_hours=ratio, late=0.0)).world for ratio in (1, 8)
    )
    for stream in ("comments", "reactions", "nps"):
        rows, others = office.rows(stream), usual.rows(stream)
        busy = sum(map(is_busy, rows)) / len(rows)
        assert busy == pytest.approx(8 * 50 / (8 * 50 + 118), abs=0.06), stream
        assert sum(map(is_busy, others)) / len(others) == pytest.approx(50 / 168, abs=0.06), stream
        assert 0.6 < len(rows) / len(others) < 1.6, stream


def test_posts_may_be_alike_or_one_of_them_go_viral() -> None:
    """However much they differ, as much comes in all."""

    def appeals(popularity: float) -> list[float]:
        company = Company(seed=3, posts=4000, requests=0, days=400, activity=0.001, popularity=popularity)
        return [row.appeal / 0.001 for row in Sandbox(company).world.rows("posts")]

    alike, usual, viral = (appeals(sigma) for sigma in (0.0, 0.6, 1.5))
    assert max(alike) == pytest.approx(min(alike)) == pytest.approx(1.197, abs=0.001)
    assert max(usual) < 15 < max(viral)
    assert sum(usual) / len(usual) == pytest.approx(1.197, rel=0.05)
    assert sum(viral) / len(viral) == pytest.approx(1.197, rel=0.25)


def test_interest_may_last_longer_and_old_posts_be_busy() -> None:
    usual, other = Company().curves["comments"], Company(ageing=5.0, tail=3.0).curves["comments"]
    assert other.half == 5 * usual.half
    assert other.floor == pytest.approx(3 * usual.floor)
    ever = 24.0 * 10_000
    assert other.total(0, ever) - other.floor * ever == pytest.approx(
        usual.total(0, ever) - usual.floor * ever, rel=1e-6
    )


def test_statuses_change_and_rows_are_deleted() -> None:
    sandbox = Sandbox(Company(days=60, deletions=0.2))
    assert len({row.fields["status"] for row in sandbox.world.rows("feature_requests")}) > 2
    reactions = sandbox.world.rows("reactions")
    gone = [row for row in reactions if row.deleted_at]
    assert 0.1 < len(gone) / len(reactions) < 0.25
    assert all(row.deleted_at and row.deleted_at > row.appears for row in gone)


@pytest.mark.parametrize(
    "company", [Company(quiet=True, days=30), Company(activity=0, days=30), Company.empty()]
)
def test_a_quiet_company_stays_as_it_is(company: Company) -> None:
    sandbox = Sandbox(company)
    before = everything(sandbox)
    sandbox.advance(timedelta(days=30))
    assert len(everything(sandbox)) == len(before)
    assert sum(sandbox.world.rate(stream) for stream in STREAMS) == 0


def test_rows_can_be_added_changed_and_deleted() -> None:
    sandbox = Sandbox(Company.empty())
    world = sandbox.world
    post = world.add("posts", date="2026-02-01T00:00:00Z")
    later = world.add(
        "comments", post, appears=sandbox.now() + timedelta(hours=1), date="2026-02-02T00:00:00Z"
    )
    assert world.rows("comments") == []
    sandbox.advance(timedelta(hours=1))
    assert [row.id for row in world.rows("comments", post)] == [later]
    world.set("comments", later, text="changed", date="2026-02-03T00:00:00Z")
    row = world.rows("comments")[0]
    assert (row.fields["text"], row.date) == ("changed", datetime(2026, 2, 3, tzinfo=UTC))
    world.delete("comments", later)
    assert row.deleted_at == sandbox.now()
    assert world.find("comments", later) is None
    assert [shown.id for shown in world.posts_shown()] == [post]


def test_time_runs_with_speed_and_stands_without() -> None:
    still = Sandbox(Company.empty())
    assert still.now() == still.now()
    fast = Sandbox(Company.empty(), speed=1e6)
    assert fast.now() < fast.now()

"""How late rows are, as each run's summary keeps it: what counts, and what a mean and a percentile become."""

import json
import random
from datetime import timedelta

import pytest

from connector.sandbox import Company
from connector.state import runs
from connector.sync.report import DAY, HOUR, MINUTE, UP_TO, Lateness
from tests.harness import Rig, hold_still
from tests.harness import sandbox as sandbox_of

SMALL = Company(posts=12, requests=6, days=40, activity=0.4, nps_per_day=1.0)


def test_rows_that_came_since_count_and_what_was_there_before_does_not(database_url: str) -> None:
    sandbox = sandbox_of(company=SMALL)
    hold_still(sandbox)
    rig = Rig(sandbox, database_url)
    first = rig.sync().report
    assert first.new.total() > 20
    assert first.late.rows == 0

    post = sandbox.world.posts_shown()[-1]
    sandbox.advance(timedelta(hours=1))
    sandbox.world.add("comments", post.id, userId="u-1")
    sandbox.advance(timedelta(hours=2))
    sandbox.world.add("comments", post.id, userId="u-2")
    sandbox.advance(timedelta(minutes=10))
    second = rig.sync().report
    assert second.new == {"comments": 2}
    assert second.late.rows == 2
    assert second.late.seconds == pytest.approx(130 * MINUTE + 10 * MINUTE, abs=5)
    assert second.late.longest == pytest.approx(130 * MINUTE, abs=5)
    assert rig.sync().report.late.rows == 0

    kept = [each["summary"]["late"] for each in runs.recent(rig.database, "default", 3)]
    assert [each["rows"] for each in kept] == [0, 2, 0]
    assert kept[1] == second.late.as_dict()
    rig.close()


def test_a_backfill_is_history_and_not_late(sqlite_url: str) -> None:
    sandbox = sandbox_of(company=SMALL)
    rig = Rig(sandbox, sqlite_url, days=5)
    rig.sync()
    outcome, _ = rig.backfill(60)
    assert outcome.report.new.total() > 10
    assert outcome.report.late.rows == 0
    rig.close()


def told(*late: float) -> Lateness:
    found = Lateness()
    found.note(late)
    return found


def test_nothing_late_says_nothing() -> None:
    assert (Lateness().mean, Lateness().within(0.95)) == (None, None)
    assert Lateness().as_dict() == {"rows": 0, "seconds": 0.0, "longest": 0.0, "up_to": {}}


def test_a_row_from_the_future_is_not_late() -> None:
    assert (told(-50.0).mean, told(-50.0).within(0.95)) == (0.0, 0.0)


def test_what_took_longer_than_all_bounds_still_counts() -> None:
    late = told(MINUTE, 90 * DAY)
    assert late.longest == 90 * DAY
    assert late.within(1.0) == 90 * DAY
    assert late.as_dict()["up_to"] == {str(MINUTE): 1, str(31 * DAY): 1}


@pytest.mark.parametrize("scale", [MINUTE, 10 * MINUTE, HOUR, 8 * HOUR, 3 * DAY])
def test_the_percentile_is_close_to_the_true_one(scale: float) -> None:
    chance = random.Random(7)
    rows = [chance.expovariate(1 / scale) for _ in range(2_000)]
    true = sorted(rows)[int(0.95 * len(rows))]
    late = told(*rows)
    assert late.within(0.95) == pytest.approx(true, rel=0.2)
    assert late.mean == pytest.approx(sum(rows) / len(rows))
    assert late.within(1.0) == pytest.approx(max(rows))


def test_sums_of_runs_are_the_sum_of_their_rows() -> None:
    chance = random.Random(11)
    rows = [chance.expovariate(1 / HOUR) for _ in range(300)]
    whole, added = told(*rows), Lateness()
    for start in range(0, len(rows), 100):
        added.add(json.loads(json.dumps(told(*rows[start : start + 100]).as_dict())))
    assert added.rows == whole.rows
    assert added.up_to == whole.up_to
    assert added.mean == pytest.approx(whole.mean, rel=1e-3)
    assert added.within(0.95) == pytest.approx(whole.within(0.95), rel=1e-3)


def test_a_summary_stays_small() -> None:
    assert list(UP_TO) == sorted(set(UP_TO))
    assert len(json.dumps(told(*UP_TO).as_dict())) < 600

"""What `explain` says of a day and of a user, from runs against the sandbox."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from connector.reporting.day_history import day_histories
from connector.reporting.row_history import user_histories
from connector.reporting.status import read_status
from connector.state import leases, privacy
from connector.state.leases import this_process
from connector.state.tables import outbox
from tests.harness import Rig, sandbox

DAY = timedelta(days=1)


@pytest.fixture
def rig(sqlite_url: str) -> Iterator[Rig]:
    rig = Rig(sandbox(), sqlite_url, days=10, streams=frozenset({"nps", "comments"}))
    rig.sandbox.world.add("nps", id="", score="7", userId="u")
    yield rig
    rig.close()


def day_of(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def of_day(rig: Rig, day: datetime) -> tuple[str, dict[str, object]]:
    policy = rig.context().policy
    status = read_status(rig.database, "default", rig.limits, "", policy, rig.clock.now())
    (history,) = day_histories(rig.database, [status], day_of(day))
    return "\n".join(history.sentences), dict(history.data)


def test_a_day(rig: Rig) -> None:
    report = rig.sync().report
    text, data = of_day(rig, rig.clock.now())
    assert data["runs"] == {"done": 1}
    assert (data["rows_new"], data["sent"]) == (dict(report.new), report.sent)
    assert f"{report.sent} sent" in text
    assert "in quarantine: nps 1" in text
    assert "rows excluded: no user id" in text
    assert re.search(
        r"^this day is not over\ncomplete up to 2026-03-01 00:00 UTC: posts, comments, nps$",
        text,
        re.MULTILINE,
    )

    rig.sandbox.advance(timedelta(minutes=5))
    rig.sync(most_requests=1)
    text, data = of_day(rig, rig.clock.now())
    assert data["runs"] == {"done": 1, "stopped": 1}
    assert "runs on this day: stopped early 1, done 1;" in text
    assert re.search(r"^stopped early: ", text, re.MULTILINE)

    text, data = of_day(rig, rig.clock.now() - 3 * DAY)
    assert "complete: posts, comments, nps" in text
    assert "no run began on this day" in text
    assert data["runs"] == {}


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (-2, "this day is in the future"),
        (10, "some rows of this day are older than the start date"),
        (40, "no run began on this day; runs are kept for 30 days"),
    ],
)
def test_a_day_that_syncs_do_not_send(rig: Rig, days: int, words: str) -> None:
    rig.sandbox.advance(timedelta(hours=12))
    rig.start = rig.clock.now() - timedelta(days=10)
    rig.sync()
    text, _ = of_day(rig, rig.clock.now() - days * DAY)
    assert words in text
    assert (f"backfill --since {rig.clock.now() - days * DAY:%Y-%m-%d}" in text) is (days > 2)


def test_a_user_of_whom_messages_wait_were_refused_and_are_forgotten(rig: Rig) -> None:
    rig.sync(deliver=False)
    with rig.database.write() as db:
        users = [
            json.loads(text).get("userId")
            for text in db.scalars(outbox.select().with_only_columns(outbox.c.message))
        ]
        user = next(filter(None, users))
        db.execute(update(outbox).where(outbox.c.message.contains(f'"{user}"')).values(state="dead"))
    (history,) = user_histories(rig.database, None, user)
    assert history.data["waiting"] == {}
    assert sum(history.data["refused"].values()) == users.count(user)
    assert user_histories(rig.database, "other", user) == user_histories(rig.database, None, "nobody") == []
    (bad,) = user_histories(rig.database, "default", "u")
    assert (bad.data["quarantined"], bad.sentences[1]) == (1, "in quarantine: 1 row")
    with leases.holding_all(rig.database, "default", this_process(), rig.clock) as (lease, _):
        privacy.erase(rig.database, lease, user, lambda _: False, rig.clock.now())
    (history,) = user_histories(rig.database, "default", user)
    assert history.data == {
        "connection": "default",
        "waiting": {},
        "refused": {},
        "quarantined": 0,
        "forgotten": True,
        "identified": False,
    }

"""When an alert is due: at a change, once an hour, and for one of two processes."""

from dataclasses import replace
from datetime import timedelta

from connector.state import alerts
from connector.state.alerts import Alert
from connector.state.engine import Database
from tests.state.times import HOUR, NOW

MINUTE = timedelta(minutes=1)


def test_a_change_is_due_once_an_hour(database: Database) -> None:
    steps = [
        ("healthy", NOW, None),
        ("stuck", NOW, "healthy"),
        ("stuck", NOW + 2 * HOUR, None),
        ("failing", NOW + HOUR - MINUTE, None),
        ("failing", NOW + HOUR, "stuck"),
        ("healthy", NOW + HOUR + MINUTE, None),
        ("stuck", NOW + 2 * HOUR, "failing"),
        ("healthy", NOW, "stuck"),  # the clock was set back
    ]
    for word, now, before in steps:
        claimed = alerts.claim(database, "default", Alert(word, now), "healthy")
        assert (claimed and claimed.word) == before, (word, now)
    other = alerts.claim(database, "other", Alert("stuck", NOW), "healthy")
    assert other == Alert("healthy"), "each connection has its own hour"


def test_one_that_could_not_be_sent_is_due_again(database: Database) -> None:
    for number in range(2):
        now = NOW + number * MINUTE
        alert = Alert("stuck", now)
        before = alerts.claim(database, "default", alert, "healthy")
        assert before == Alert("healthy")
        alerts.give_back(database, "default", alert, before)
    # One that another process has replaced meanwhile stays.
    alerts.claim(database, "default", Alert("late", NOW), "healthy")
    alerts.give_back(database, "default", alert, replace(alert, word="healthy"))
    assert alerts.claim(database, "default", Alert("late", NOW + 2 * HOUR), "healthy") is None

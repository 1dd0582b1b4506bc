"""Every verdict a row can get."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.beamer.rows import Row
from connector.beamer.streams import CATALOGUE
from connector.domain.state import Verdict
from connector.segment.shaping import Naming, Privacy
from connector.sync.policy import Policy
from connector.sync.rows.judging import judge, unsettled

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = NOW - timedelta(days=30)
NAMING = Naming("dest", "acct", "default")


def verdict(stream: str, fields: dict[str, Any], age: timedelta, **settings: Any) -> Verdict | None:
    streams = settings.pop("streams", frozenset(CATALOGUE))
    policy = Policy(streams, START, NAMING, **settings)
    return judge(Row("1", NOW - age, fields), CATALOGUE[stream], policy, NOW)


HOUR = timedelta(hours=1)
USER = {"user_id": "u1"}
TEAM = {"internal": "ann@company.example"}
ROWS: dict[str, tuple[str, dict[str, Any], timedelta, Verdict | None]] = {
    "a user's comment": ("comments", USER, HOUR, Verdict.EVENT),
    "of the start date's second": ("comments", USER, timedelta(days=30), Verdict.EVENT),
    "a second before the start date": ("comments", USER, timedelta(days=30, seconds=1), None),
    "no user id": ("reactions", {}, HOUR, Verdict.NO_USER),
    "an empty user id": ("reactions", {"user_id": " "}, HOUR, Verdict.NO_USER),
    "a script's undefined": ("reactions", {"user_id": "undefined"}, HOUR, Verdict.NO_USER),
    "user 0": ("reactions", {"user_id": "0"}, HOUR, Verdict.NO_USER),
    "user -1": ("feature_request_votes", {"user_id": "-1"}, HOUR, Verdict.NO_USER),
    "a published post": ("posts", {"published": True}, HOUR, Verdict.EVENT),
    "a post that does not say": ("posts", {}, HOUR, Verdict.EVENT),
    "a draft": ("posts", {"published": False}, HOUR, None),
    "a scheduled post": ("posts", {"published": True}, -HOUR, None),
    "a post of this second": ("posts", {"published": True}, timedelta(0), Verdict.EVENT),
    "a team's comment": ("feature_request_comments", TEAM, HOUR, Verdict.TEAM),
    "an internal user who is a user": ("feature_request_comments", USER | TEAM, HOUR, Verdict.EVENT),
    "an invisible comment": ("feature_request_comments", USER | {"visible": False}, HOUR, Verdict.TEAM),
    "an automatic comment": ("feature_request_comments", USER | {"automatic": True}, HOUR, Verdict.TEAM),
    "a team's request": ("feature_requests", TEAM, HOUR, Verdict.EVENT),
    "a request of nobody": ("feature_requests", {}, HOUR, Verdict.NO_USER),
    "an invisible request": ("feature_requests", USER | {"visible": False}, HOUR, Verdict.EVENT),
    "an answer with text": ("nps", USER | {"text": "Good"}, timedelta(0), Verdict.EVENT),
    "an answer still being typed": ("nps", USER | {"text": ""}, timedelta(minutes=14), None),
    "an answer without text": ("nps", USER | {"text": None}, timedelta(minutes=15), Verdict.EVENT),
    "a settled answer of nobody": ("nps", {"text": None}, timedelta(minutes=16), Verdict.NO_USER),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_gets_its_verdict(case: str) -> None:
    stream, fields, age, expected = ROWS[case]
    assert verdict(stream, fields, age) is expected


def test_a_stream_that_is_off_is_excluded_as_such() -> None:
    assert verdict("posts", {}, HOUR, streams=frozenset({"comments"})) is Verdict.STREAM_OFF
    assert verdict("posts", {"published": False}, HOUR, streams=frozenset({"comments"})) is None


def test_settings_let_rows_through() -> None:
    privacy = Privacy(anonymous="shared")
    assert verdict("feature_request_comments", USER | {"visible": False}, HOUR, team_comments=True)
    assert verdict("feature_request_comments", TEAM, HOUR, team_comments=True) is Verdict.EVENT
    assert verdict("reactions", {}, HOUR, privacy=privacy) is Verdict.EVENT
    assert verdict("feature_request_comments", TEAM, HOUR, privacy=privacy) is Verdict.TEAM
    assert verdict("nps", USER, timedelta(0), nps_settle=timedelta(0)) is Verdict.EVENT


def test_only_rows_of_the_window_have_to_be_looked_at_again() -> None:
    policy = Policy(frozenset(CATALOGUE), START, NAMING)
    young, old = Row("1", NOW, {}), Row("2", START - HOUR, {})
    assert unsettled(young, CATALOGUE["nps"], policy, NOW)
    assert not unsettled(old, CATALOGUE["nps"], policy, NOW)
    assert not unsettled(young, CATALOGUE["comments"], policy, NOW)

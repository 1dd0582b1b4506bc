"""`quota`, and what `status` says of the budget and of what was not read yet."""

import socket
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.domain.budget import PLANS, Balance, Limits
from connector.reporting.proof import STREAM_OF
from connector.reporting.quota import Offer, Quota, pace, quota, runs_out
from connector.reporting.status import between_runs
from connector.sandbox import Company
from connector.state.ledger import Ledger
from tests.cli.conftest import Make
from tests.cli.process import Machine, made_up
from tests.harness import Rig, sandbox

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FREE = Limits(1000, 50, 30)
OFFERS = (Offer(("starter",), 20_000, 19_000), Offer(("pro",), None, None))


# --- the pace -------------------------------------------------------------------------------------------


def standing(left: int | None, until: datetime | None, **others: Any) -> Balance:
    return replace(Balance(0, left, None, False, {}, NOW - 10 * DAY, until), **others)


@pytest.mark.parametrize(
    ("left", "per_day", "until", "expected"),
    [
        (300, 30, NOW + 20 * DAY, NOW + 10 * DAY),
        (300, 15, NOW + 20 * DAY, None),
        (300, 0, NOW + 20 * DAY, None),
        (0, 5, NOW + 20 * DAY, NOW),
        (None, 900, None, None),
        # Where the period is not told: a pace that any 31 days allow lasts for ever.
        (100, 29, None, None),
        (100, 50, None, NOW + 2 * DAY),
    ],
)
def test_when_the_budget_would_run_out(
    left: int | None, per_day: float, until: datetime | None, expected: datetime | None
) -> None:
    assert runs_out(FREE, standing(left, until), per_day, NOW) == expected


def spend(ledger: Ledger, day: datetime, requests: int) -> None:
    for second in range(requests):
        ledger.take("posts", day + timedelta(seconds=second), beyond_bucket=True)


def paced(
    path: Path, spent: Mapping[int, int], told: int | None, now: datetime, days: int = 0
) -> float | None:
    """The pace some days after `now`, where so many requests were spent so many days before it."""
    rig = Rig(sandbox(company=Company.empty()), f"sqlite:///{path / 'state.sqlite'}", limits=FREE)
    ledger = Ledger(rig.database, "acct", "default", FREE)
    for days_ago in sorted(spent, reverse=True):
        spend(ledger, now - days_ago * DAY, spent[days_ago])
    if told is not None:
        ledger.set_used(told, now)
    later = now + days * DAY
    found = pace(rig.database, "acct", ledger.balance(later), later)
    rig.close()
    return found


def test_there_is_no_pace_on_the_first_day(tmp_path: Path) -> None:
    assert paced(tmp_path, {0: 12}, 332, NOW.replace(hour=12)) is None


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        # The first day, whose first sync reads everything, does not count.
        ({2: 20, 1: 6}, 4.0),
        ({1: 90, 0: 5}, 5.0),
        ({30: 1, 1: 13}, 2.0),
        ({20: 90, 6: 7, 3: 6}, 2.0),
    ],
)
def test_todays_pace_is_that_of_the_last_week_or_since_its_second_day(
    tmp_path: Path, spent: Mapping[int, int], expected: float
) -> None:
    now = NOW.replace(hour=12)
    assert paced(tmp_path, spent, None, now) == pytest.approx(expected, rel=0.01)


def test_what_others_spent_counts_from_the_beginning_of_the_period(tmp_path: Path) -> None:
    # Of the 332, 12 are ours; the others' are taken to have been spent over the 31.5 days that count.
    found = paced(tmp_path, {0: 12}, 332, NOW.replace(hour=12), days=1)
    assert found == pytest.approx(320 / 31.5, rel=0.01)


# --- an account looked up ---------------------------------------------------------------------------------


def lived(path: Path, limits: Limits, days: int, every: timedelta) -> Rig:
    """A small company's account that was synced for some days."""
    box = sandbox(company=Company(seed=3, posts=24, requests=12, days=60, nps_per_day=2.0))
    rig = Rig(box, f"sqlite:///{path / 'state.sqlite'}", limits=limits)
    for _ in range(int(days * DAY / every)):
        rig.sync()
        box.advance(every)
    return rig


def stored_or_new_identity(rig: Rig, limits: Limits) -> Quota:
    asked = Quota("acct", ("default",), limits, "as told")
    return quota(rig.database, asked, {"default": rig.context().policy}, OFFERS, rig.clock.now())


def test_an_account_under_a_limit(tmp_path: Path) -> None:
    rig = lived(tmp_path, FREE, 4, timedelta(hours=4))
    found = stored_or_new_identity(rig, FREE)
    assert found.outlook is not None
    ahead = found.outlook
    assert between_runs(rig.database, "default") == ahead.every == timedelta(hours=4)
    assert ahead.a_pass == 3 + 2 + 1
    assert ahead.daily < ahead.hourly
    assert {"posts", "comments", "reactions", "nps"} <= set(ahead.rows)
    more, unlimited = (forecast.mean for _, forecast in ahead.offers)
    assert ahead.today.mean is not None
    assert more is not None
    assert ahead.today.mean > more > 1.9
    assert unlimited == pytest.approx(2.0, rel=0.01)
    assert ahead.today.audit_round is not None
    assert ahead.today.audit_round >= 7 * 24
    rig.close()


def test_an_account_without_a_limit(tmp_path: Path) -> None:
    none = Limits(None, 0, 30)
    rig = lived(tmp_path, none, 1, timedelta(hours=6))
    found = stored_or_new_identity(rig, none)
    assert found.outlook is not None
    assert found.outlook.today.mean == pytest.approx(3.0, rel=0.01)
    assert not found.outlook.unread.lists
    assert (found.runs_out, found.balance and found.balance.left) == (None, None)
    rig.close()


def test_what_was_not_read_yet_is_counted_down(tmp_path: Path) -> None:
    small = Limits(200, 0, 30)
    rig = lived(tmp_path, small, 1, timedelta(hours=12))
    first = stored_or_new_identity(rig, small).outlook
    assert first is not None
    assert first.unread.requests >= sum(first.unread.lists.values()) > 10
    assert first.read_by is not None
    for _ in range(12):
        rig.sandbox.advance(DAY)
        rig.sync()
    second = stored_or_new_identity(rig, small).outlook
    assert second is not None
    assert second.unread.requests < first.unread.requests
    rig.close()


# --- the commands -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_before_any_run_quota_makes_nothing_and_needs_no_keys(on_either: Machine) -> None:
    on_either.extra |= {"BEAMER_API_KEY": "", "SEGMENT_WRITE_KEY": "", "BEAMER_PLAN": ""}
    ended = on_either.run("quota")
    assert (ended.code, "never run" in ended.out, "assumed: BEAMER_PLAN" in ended.out) == (0, True, True)
    (account,) = on_either.run("quota", "--output", "json").json["accounts"]
    assert (account["account"], account["used"], account["outlook"]) == (None, None, None)
    assert list(on_either.here.iterdir()) == []


@pytest.mark.slow
def test_quota_after_a_sync(on_either: Machine) -> None:
    on_either.extra |= {"BEAMER_PLAN": "free"}
    on_either.run("sync")
    asked = on_either.asked()
    ended = on_either.run("quota", "--output", "json")
    assert on_either.asked() == asked
    (account,) = ended.json["accounts"]
    assert account["connections"] == ["default"]
    assert account["used"] == asked == sum(account["by_purpose"].values())
    assert account["used"] + account["left"] == 950
    assert (account["monthly_requests"], account["reserve"], account["period_day"]) == (1000, 50, None)
    outlook = account["outlook"]
    assert outlook["hours_between_runs"] is None
    assert outlook["check_everything"]["requests"] == 4
    offered = [name for plan in outlook["plans"] for name in plan["plans"]]
    assert sorted(offered) == sorted(PLANS.keys() - {"free"})
    delays = [plan["mean_delay_hours"] for plan in (outlook["today"], *outlook["plans"])]
    assert delays == sorted(delays, reverse=True)
    text = on_either.run("quota").out
    assert "BEAMER_PERIOD_DAY" in text
    assert "one hour is assumed" in text
    assert "rows a month: " in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("today ")] == ["today"]


@pytest.mark.slow
def test_telling_what_was_used(on_either: Machine) -> None:
    on_either.extra |= {"BEAMER_PLAN": "free", "BEAMER_PERIOD_DAY": "1"}
    nothing = on_either.run("quota", "set-used", "420")
    if on_either.database_url is None or "sqlite" in on_either.database_url:
        assert (nothing.code, "check --offline" in nothing.err) == (78, True)
    on_either.run("check", "--offline")
    ended = on_either.run("quota", "set-used", "420", "--output", "json")
    (account,) = ended.json["accounts"]
    assert (account["used"], account["left"], account["assumed"]) == (420, 530, 0)
    assert account["by_purpose"] == {"elsewhere": 420}
    on_either.run("sync")
    (account,) = on_either.run("quota", "--output", "json").json["accounts"]
    assert account["used"] == 420 + on_either.asked()
    more = on_either.run("quota", "set-used", str(on_either.asked() + 10))
    assert ("elsewhere 10" in more.out, more.err) == (True, "")
    less = on_either.run("quota", "set-used", "2")
    assert f"alone sent {on_either.asked()} requests" in less.err
    assert "elsewhere" not in less.out.replace("elsewhere 0", "")


@pytest.mark.slow
def test_telling_a_number_of_a_month_that_nobody_knows(on_either: Machine) -> None:
    on_either.extra |= {"BEAMER_PLAN": "free"}
    on_either.run("check", "--offline")
    now, database = datetime.now(UTC), on_either.database()
    account = on_either.run("quota", "--output", "json").json["accounts"][0]["account"]
    Ledger(database, account, "default", FREE).take("posts", now - 3 * DAY)
    database.close()
    refused = on_either.run("quota", "set-used", "420")
    assert (refused.code, "BEAMER_PERIOD_DAY" in refused.err, "--since" in refused.err) == (78, True, True)
    assert on_either.run("quota", "set-used", "420", "--since", "soon").code == 2
    since = f"{now - DAY:%Y-%m-%d}"
    told = on_either.run("quota", "set-used", "420", "--since", since, "--output", "json")
    assert told.json["accounts"][0]["by_purpose"] == {"posts": 1, "elsewhere": 420}
    database = on_either.database()
    Ledger(database, account, "default", FREE).take("posts", now)
    database.close()
    less = on_either.run("quota", "set-used", "0", "--since", since)
    assert (
        less.code,
        "This connector alone sent 1 request since" in less.err,
    ) == (0, True)


@pytest.mark.parametrize("words", [["-3"], ["--", "-3"], ["many"], []])
@pytest.mark.slow
def test_what_was_used_is_a_number(machine: Machine, words: list[str]) -> None:
    assert machine.run("quota", "set-used", *words).code == 2


@pytest.mark.slow
def test_options_stand_behind_set_used(machine: Machine) -> None:
    ended = machine.run("quota", "--connection", "default", "set-used", "5")
    assert (ended.code, "after set-used" in ended.err) == (2, True)
    assert machine.run("quota", "set-used", "5", "--connection", "defualt").code == 78


@pytest.mark.slow
def test_connections_of_one_account_are_shown_together(machine: Machine) -> None:
    file = machine.here / "connector.toml"
    table = (
        '[[connections]]\nname = "{}"\nplan = "{}"\naccount = "{}"\n'
        'api_key_env = "{}"\nwrite_key_env = "SEGMENT_WRITE_KEY{}"\n'
    )
    key = "BEAMER_API_KEY"
    shared = [
        ("eu", "free", "a", key, ""),
        ("us", "free", "a", key, "_2"),
        ("other", "pro", "b", "ITS", "_3"),
    ]
    file.write_text("\n".join(table.format(*each) for each in shared))
    machine.extra |= {f"SEGMENT_WRITE_KEY_{number}": f"made-up-{number}" for number in (2, 3)}
    machine.extra |= {"CONNECTOR_CONFIG": str(file), "BEAMER_PLAN": "", "ITS": "another-beamer-key"}
    assert machine.run("sync", "--connection", "eu").code == 0
    found = machine.run("quota", "--output", "json").json["accounts"]
    assert [each["connections"] for each in found] == [["eu", "us"], ["other"]]
    assert [each["used"] for each in found] == [machine.asked(), 0]
    assert [each["outlook"] is None for each in found] == [False, True]
    (one,) = machine.run("quota", "--connection", "us", "--output", "json").json["accounts"]
    assert one["connections"] == ["eu", "us"]


# --- status -----------------------------------------------------------------------------------------------


def change(machine: Machine, statement: str) -> None:
    with sqlite3.connect(machine.file) as db:
        db.execute(statement)
    db.close()


@pytest.mark.slow
def test_status_says_what_was_not_read_yet_and_when_it_will_be(machine: Machine) -> None:
    machine.extra |= {"BEAMER_MONTHLY_REQUESTS": "100", "BEAMER_RESERVE": "0"}
    assert machine.run("sync").code == 0
    found = machine.run("status", "--output", "json").connection
    by_stream = {each["stream"]: each for each in found["streams"]}
    lists = {name: each["lists_never_read"] for name, each in by_stream.items()}
    assert found["lists_never_read"] == sum(lists.values()) > 0
    assert datetime.fromisoformat(found["read_by"]) > machine.sandbox.now()
    # A little is kept for rows to come.
    assert found["requests_available"] < 10
    assert 0 < found["requests_per_day"] < 4
    assert lists["posts"] == lists["nps"] == 0
    text = machine.run("status").out
    assert f"not yet read: {found['lists_never_read']} lists" in text
    assert "more per day" in text


@pytest.mark.slow
def test_status_says_which_counters_are_not_trusted(machine: Machine) -> None:
    machine.run("sync")
    found = machine.run("status", "--output", "json").connection
    trusted = {each["stream"]: each["counters_trusted"] for each in found["streams"]}
    assert trusted == {
        **dict.fromkeys(("comments", "reactions", "feature_request_comments", "feature_request_votes"), True),
        **dict.fromkeys(("posts", "nps", "feature_requests")),
    }
    assert (found["lists_never_read"], found["read_by"]) == (0, None)
    assert "untrusted" not in machine.run("status").out
    change(machine, "UPDATE beamer_segment_stream SET distrusted = 1 WHERE name = 'reactions'")
    assert "reactions: counters are untrusted; its lists are read without them." in machine.run("status").out


@pytest.mark.slow
def test_status_and_quota_of_an_account_closed_by_429(machine: Machine) -> None:
    machine.run("sync")
    account = machine.run("status", "--output", "json").connection["account"]
    database = machine.database()
    Ledger(database, account, "default", FREE).close(datetime.now(UTC))
    database.close()
    for words in (["status"], ["quota"]):
        assert "requests are paused until" in machine.run(*words).out
    assert machine.run("quota", "--output", "json").json["accounts"][0]["closed_until"]


@pytest.mark.slow
def test_what_is_still_being_discovered(make: Make) -> None:
    machine = make()
    machine.run("sync", "--max-requests", "1")
    found = machine.run("status", "--output", "json").connection
    assert {each["stream"] for each in found["streams"] if each["still_discovering"]} >= {"posts"}
    assert "not yet read to the end: posts" in machine.run("quota").out


# --- what never left this machine -----------------------------------------------------------------------


COMMANDS = {
    "sync": (("sync",), 69),
    "check": (("check",), 69),
    "dry run": (("backfill", "--since", "2020-01-01", "--dry-run"), 69),
    "backfill": (("backfill", "--since", "2020-01-01", "--max-requests", "9", "--yes"), 69),
}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["sync", "backfill", *(pytest.param(name, marks=pytest.mark.long) for name in ("check", "dry run"))],
)
def test_requests_to_a_closed_port_leave_the_month_untouched(on_either: Machine, command: str) -> None:
    words, code = COMMANDS[command]
    on_either.extra = {"BEAMER_PLAN": "free", "BEAMER_PERIOD_DAY": "1"}
    on_either.extra["BEAMER_BASE_URL"] = f"http://127.0.0.1:{closed_port()}/v0"
    assert on_either.run("sync").code == 69
    before = on_either.run("quota", "--output", "json").json["accounts"][0]
    assert before["used"] == 0
    for _ in range(3):
        ended = on_either.run(*words)
        assert ended.code == code, ended.err
    after = on_either.run("quota", "--output", "json").json["accounts"][0]
    assert (after["used"], after["left"]) == (before["used"], before["left"])
    # On a slow machine more became available meanwhile.
    assert after["available"] >= before["available"]
    assert on_either.asked() == 0


@pytest.mark.slow
def test_a_server_that_hangs_up_costs_each_request(on_either: Machine) -> None:
    on_either.extra = {"BEAMER_PLAN": "free"}
    on_either.sandbox.faults.script("beamer", ["reset_before"] * 50)
    assert on_either.run("sync").code == 69
    assert on_either.asked() > 0
    assert on_either.run("quota", "--output", "json").json["accounts"][0]["used"] == on_either.asked()


def test_events_and_users_that_segment_may_bill(make: Make) -> None:
    machine = make(made_up(plan="scale"), extra={"BEAMER_IDENTIFY": "true"})
    assert machine.run("sync").code == 0
    ended = machine.run("quota", "--output", "json").json["accounts"][0]
    events = Counter(
        STREAM_OF.get(str(each.get("event")), "users") for each in machine.sandbox.segment.messages
    )
    assert events["users"] > 10
    assert ended["segment_events"] == events
    users = {message.get("userId") for message in machine.sandbox.segment.messages}
    assert len(users) <= ended["segment_most_users"] == events.total() - events["posts"]
    assert f"sent to Segment in the last 30 days: {events.total():,} events" in machine.run("quota").out

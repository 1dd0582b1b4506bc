"""A first, a second and a third sync, by processes over sockets."""

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from math import ceil

import pytest
from sqlalchemy import func, select, update

from connector.beamer.streams import CATALOGUE
from connector.sandbox import Company
from connector.state.tables import connections, rows, spends
from connector.sync.planning.probes import NO_PARENT
from tests.cli.conftest import Make
from tests.cli.process import SMALL, Machine, made_up
from tests.harness import expected, landed
from tests.sandbox import Sandbox


def quiet_requests(machine: Machine) -> int:
    """What a sync with nothing new costs: each page of posts and requests, and one of NPS."""
    now = machine.sandbox.now()
    shown = [
        sum(row.appears <= now and row.deleted_at is None for row in machine.sandbox.world.rows(stream))
        for stream in ("posts", "feature_requests")
    ]
    return sum(ceil(count / 10) for count in shown) + 1


def test_three_syncs(on_either: Machine) -> None:
    first = on_either.run("sync", "--output", "json")
    assert first.code == 0, first.err
    on_either.all_there_once()
    sent = len(on_either.sandbox.segment.messages)
    assert first.connection["sent"] == sent > 50

    # At some hours of the day nothing else happens in the next twenty.
    on_either.sandbox.world.add("posts")
    on_either.sandbox.advance(timedelta(hours=20))
    second = on_either.run("sync", "--output=json")
    on_either.all_there_once()
    assert second.connection["sent"] == len(on_either.sandbox.segment.messages) - sent > 0

    # A status that has changed is sent once two checks have shown it.
    confirmed = on_either.run("sync", "--output", "json").connection["events"]
    assert set(confirmed) <= {"feature_requests"}
    asked = on_either.asked()
    third = on_either.run("sync", "--output", "json")
    assert third.connection["sent"] == 0
    assert on_either.asked() - asked == third.connection["requests_spent"] == quiet_requests(on_either)


@pytest.mark.slow
def test_streams_asked_for_alone_cost_later_syncs_nothing(machine: Machine) -> None:
    alone = machine.run("sync", "--stream", "comments", "--output", "json")
    assert alone.code == 0, alone.err
    assert alone.connection["excluded"].keys() <= {"no_user", "team"}
    assert "reactions" not in alone.connection["requests"]
    assert machine.run("sync").code == 0
    machine.all_there_once()


def test_an_unknown_stream_is_named(machine: Machine) -> None:
    ended = machine.run("sync", "--stream", "coments", "--output", "json")
    assert (ended.code, machine.asked()) == (78, 0)
    assert "comments" in ended.err


def test_collecting_only(machine: Machine) -> None:
    collected = machine.run("sync", "--no-deliver", "--output", "json")
    assert (collected.code, machine.asked("segment")) == (0, 0)
    delivered = machine.run("sync", "--max-requests", "0", "--output", "json", "--skip-exit-code", "99")
    assert delivered.code == 0
    assert delivered.connection["sent"] == collected.connection["waiting"] > 0
    assert delivered.connection["requests_spent"] == 0
    machine.all_there_once()


@pytest.mark.slow
def test_a_few_requests_at_a_time_end_at_the_same_place(machine: Machine) -> None:
    for _ in range(40):
        ended = machine.run("sync", "--max-requests", "15", "--output", "json")
        assert ended.code == 0
        if not ended.connection["stopped"]:
            break
    machine.all_there_once()


def test_a_dry_run_asks_nobody_and_writes_nothing(on_either: Machine) -> None:
    before = on_either.run("sync", "--dry-run", "--output", "json")
    assert (before.code, on_either.asked(), list(on_either.here.iterdir())) == (0, 0, []), before.err
    assert before.connection["requests_at_least"] > 0
    assert on_either.run("status", "--output", "json").connection["start_date"] is None
    on_either.run("sync")
    asked = on_either.asked()
    after = on_either.run("sync", "--dry-run", "--output", "json")
    assert (after.code, on_either.asked()) == (0, asked)
    real = on_either.run("sync", "--output", "json").connection
    # The first sync is followed by one whose audit counts the responses, and reads them.
    assert 4 < after.connection["requests_at_least"] <= real["requests_spent"]
    quiet = on_either.run("sync", "--dry-run", "--output", "json").connection
    assert quiet["requests_at_least"] == quiet_requests(on_either)
    # These are lists of the account, of no post or request.
    assert {probe["parent"] for probe in quiet["probes"]} == {None}
    lines = map(str.split, on_either.run("sync", "--dry-run").out.splitlines())
    assert ["nps", "look", "for", "new", "rows"] in lines


def test_a_dry_run_plans_as_a_sync_does_under_a_monthly_limit(make: Make) -> None:
    """It printed everything there is to ask, whatever was at hand."""
    machine = make(extra={"BEAMER_PLAN": "free"})
    machine.run("sync", "--max-requests", "12")
    asked = machine.asked()
    dry = machine.run("sync", "--dry-run", "--max-requests", "5", "--output", "json").connection
    assert (machine.asked(), dry["stopped"]) == (asked, None)
    assert 0 < dry["requests_at_least"] == len(dry["probes"]) <= 5 < dry["available"]
    assert dry["later"] > 0
    machine.run("sync", "--max-requests", "5")
    first = CATALOGUE[dry["probes"][0]["stream"]]
    paths = [seen.path for seen in machine.sandbox.requests if seen.api == "beamer"]
    assert paths[asked] == first.path_for(dry["probes"][0]["parent"] or NO_PARENT)
    while machine.run("sync", "--output", "json").connection["requests_spent"]:
        pass
    # What is left is kept for what will be worth a request.
    spent = machine.run("sync", "--dry-run", "--output", "json").connection
    assert len(spent["probes"]) == spent["requests_at_least"] == 0
    assert spent["later"] > 0
    assert (spent["stopped"] == "No request is available now.") == (spent["available"] < 1)
    assert ": the next run would send no request" in machine.run("sync", "--dry-run").out


def test_a_sample_is_charged_and_leaves_nothing_else(on_either: Machine) -> None:
    assert on_either.run("sync", "--sample", "5").code == 2, "only with --dry-run"
    ended = on_either.run("sync", "--dry-run", "--sample", "9", "--output", "json")
    found, asked = ended.connection, on_either.asked()
    assert (ended.code, len(found["events"]), asked) == (0, 9, 7), ended.err
    assert {page["stream"] for page in found["streams"]} == {*CATALOGUE}
    shown = on_either.run("sync", "--dry-run", "--sample", "1", "--max-requests", "1")
    assert re.search(r"^  posts: \d+ rows on the page, \d+ to send", shown.out, re.MULTILINE)
    assert re.search(
        r"^  comments of \d+: not read: The requests of --max-requests 1 ", shown.out, re.MULTILINE
    )
    assert on_either.sandbox.segment.received == []
    status = on_either.run("status", "--output", "json").connection
    assert (status["account"], status["start_date"], status["last_run"]) == (None, None, None)
    with closing(on_either.database()) as database, database.read() as db:
        assert db.scalar(select(func.sum(spends.c.requests))) == on_either.asked() == asked + 1
        assert db.scalar(select(func.count()).select_from(rows)) == 0
    on_either.run("sync")
    sent = {message["messageId"]: message for message in on_either.sandbox.segment.messages}
    for event in found["events"]:
        # The library's own time of sending differs.
        assert sent[event["messageId"]]["properties"] == event["properties"]
    on_either.all_there_once()


def test_the_start_date_stays_and_is_said(machine: Machine) -> None:
    first = machine.run("sync")
    assert f"{machine.start:%Y-%m-%d} 00:00:00 UTC" in first.out
    machine.extra["BEAMER_START_DATE"] = "2020-01-01"
    later = machine.run("sync", "--output", "json")
    assert later.connection["rows_new"] == {}
    assert "earlier" in later.connection["notices"][0]


def test_check_does_not_fix_the_start_date(machine: Machine) -> None:
    assert machine.run("check", "--offline").code == 0
    machine.extra["BEAMER_START_DATE"] = "2026-01-01"
    assert "2026-01-01" in machine.run("sync", "--max-requests", "0").out


def test_an_empty_account(make: Make) -> None:
    machine = make(made_up(Company.empty()))
    ended = machine.run("sync", "--output", "json")
    assert (ended.code, ended.connection["sent"], ended.connection["rows_new"]) == (0, 0, {})


# --- a first sync and this machine's clock ----------------------------------------------------------------


def off_by(off: timedelta) -> Sandbox:
    """A Beamer whose clock is so far behind this machine's."""
    sandbox = Sandbox(SMALL, now=datetime.now(UTC).replace(microsecond=0) - off)
    sandbox.switches.rate_limit = None
    return sandbox


def start_of(machine: Machine) -> datetime:
    return datetime.fromisoformat(machine.run("status", "--output", "json").connection["start_date"])


@pytest.mark.parametrize(
    "off",
    [
        timedelta(days=60),
        pytest.param(timedelta(hours=25), marks=pytest.mark.slow),
        pytest.param(timedelta(days=366), marks=pytest.mark.slow),
        pytest.param(timedelta(days=-60), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_first_sync_by_a_clock_that_is_days_off_settles_nothing(make: Make, off: timedelta) -> None:
    machine = make(off_by(off), extra={"BEAMER_START_DATE": "", "BEAMER_PLAN": "pro"})
    ended = machine.run("sync")
    assert (ended.code, machine.asked(), landed(machine.sandbox)) == (78, 3, {}), ended.err
    assert f"{abs(off) / timedelta(days=1):,.1f} days {'ahead of' if off.days > 0 else 'behind'}" in ended.err
    checked = machine.run("check")
    assert (checked.code, "refuses that" in checked.out) == (78, True), checked.out
    if off.days > 0:
        # The clock is set right.
        machine.sandbox.advance(off)
        assert machine.run("sync").code == 0
        assert abs(start_of(machine) - (machine.sandbox.now() - timedelta(days=30))) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "off", [timedelta(hours=10), pytest.param(timedelta(hours=-10), marks=pytest.mark.slow)], ids=str
)
def test_a_first_sync_settles_the_start_date_by_beamers_clock(make: Make, off: timedelta) -> None:
    machine = make(off_by(off), extra={"BEAMER_START_DATE": "", "BEAMER_PLAN": "pro"})
    ended = machine.run("sync")
    start = machine.sandbox.now() - timedelta(days=30)
    assert (ended.code, f"{start:%Y-%m-%d %H:%M}" in ended.out) == (0, True), ended.err
    assert abs(start_of(machine) - start) < timedelta(minutes=5)
    assert expected(machine.sandbox, start).keys() <= landed(machine.sandbox).keys()


@pytest.mark.parametrize(
    ("dates", "code"),
    [
        (["Thu, 01 Jan 2099 00:00:00 GMT"], 0),
        (["Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"], 0),
        (["no date"] * 50, 0),
        (["Thu, 01 Jan 2099 00:00:00 GMT"] * 3, 78),
    ],
    ids=["one", "two", "never", "three"],
)
@pytest.mark.slow
def test_odd_dates_at_a_first_sync(make: Make, dates: list[str], code: int) -> None:
    machine = make(extra={"BEAMER_START_DATE": "", "BEAMER_PLAN": "pro"})
    empty = [("answer", 200, b"[]", {"Date": date, "Content-Type": "application/json"}) for date in dates]
    machine.sandbox.faults.script("beamer", empty)
    assert machine.run("sync").code == code
    if not code:
        assert abs(start_of(machine) - (datetime.now(UTC) - timedelta(days=30))) < timedelta(minutes=5)


def test_a_start_date_in_the_future_is_named_and_found_anew(on_either: Machine) -> None:
    on_either.extra = {"BEAMER_START_DATE": "", "BEAMER_PLAN": "pro"}
    assert on_either.run("sync", "--stream", "nps").code == 0
    database = on_either.database()
    with database.write() as db:
        db.execute(update(connections).values(start_date=datetime.now(UTC) + timedelta(days=400)))
    database.close()
    for command in ("status", "check"):
        assert "The start date is in the future" in on_either.run(command).out
    assert on_either.run("sync").code == 0
    assert start_of(on_either) < datetime.now(UTC) - timedelta(days=29)

"""What Segment does with events after its 200: `check` and `verify` name it, with what to do."""

import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zlib import crc32

import pytest
from sqlalchemy import select, update

from connector.sandbox import proof_environment
from connector.sandbox.public_api import Source
from connector.segment.events import tracking_plan
from connector.state.tables import deliveries, proofs
from tests.cli.conftest import Make
from tests.cli.process import Ended, Machine, made_up
from tests.harness import landed

HOUR = timedelta(hours=1)


@pytest.fixture
def proving(machine: Machine) -> Machine:
    """A machine with a token of the Public API."""
    machine.extra |= proof_environment(machine.served, machine.sandbox)
    return machine


def findings(ended: Ended, *things: str) -> dict[str, tuple[str, str, str]]:
    return {
        each["thing"]: (each["grade"], each["found"], each["todo"])
        for each in ended.json["findings"]
        if each["thing"] in things
    }


THINGS = ("source", "destinations", "tracking plan", "proof")


def check(machine: Machine) -> tuple[int, dict[str, tuple[str, str, str]]]:
    ended = machine.run("check", "--output", "json")
    return ended.code, findings(ended, *THINGS)


def test_a_source_as_it_should_be(proving: Machine) -> None:
    code, found = check(proving)
    assert code == 0
    assert {thing: grade for thing, (grade, *_) in found.items()} == {
        "source": "ok",
        "destinations": "ok",
        "tracking plan": "ok",
    }


def test_without_a_token_check_says_what_is_not_proven(machine: Machine) -> None:
    code, found = check(machine)
    assert code == 0
    assert found.keys() == {"proof"}
    assert found["proof"][0] == "ok"
    assert "Not proven: that the write key is the right one" in found["proof"][1]
    ended = machine.run("verify")
    assert ended.code == 78
    assert "Set SEGMENT_PUBLIC_API_TOKEN" in ended.err
    assert not [seen for seen in machine.sandbox.requests if "/sources" in seen.path]


def other_key(machine: Machine) -> None:
    machine.sandbox.segment.write_keys = {"another-write-key"}


def other_region(machine: Machine) -> None:
    machine.extra["SEGMENT_PUBLIC_API_TOKEN"] = "token-of-the-other-region"  # noqa: S105


def disabled(machine: Machine) -> None:
    machine.sandbox.segment.sources[0].enabled = False


def no_destination(machine: Machine) -> None:
    machine.sandbox.segment.sources[0].destinations = {"Amplitude": False}


def blocked(machine: Machine) -> None:
    source = machine.sandbox.segment.sources[0]
    source.rules = [rule for rule in tracking_plan()["rules"] if rule["key"] != "Post Commented"]
    source.unplanned_blocked = True


def hidden_keys(machine: Machine) -> None:
    machine.sandbox.segment.public_api.shows_write_keys = False


def other_source(machine: Machine) -> None:
    machine.extra["SEGMENT_SOURCE_ID"] = "elsewhere"


@pytest.mark.parametrize(
    ("change", "code", "thing", "grade", "says", "todo"),
    [
        (
            other_key,
            78,
            "source",
            "error",
            "No source of this Segment workspace has",
            "Compare SEGMENT_WRITE_KEY",
        ),
        (other_region, 77, "proof", "error", "refuses the token (401)", "SEGMENT_REGION"),
        (disabled, 78, "source", "error", "is disabled: Segment answers 200", "Enable it in Segment"),
        (no_destination, 0, "destinations", "warning", "after 14 days, so by 20", "Connect an enabled"),
        (
            blocked,
            78,
            "tracking plan",
            "error",
            "The source blocks Post Commented:",
            "events --format tracking",
        ),
        (hidden_keys, 69, "proof", "error", "shows no write keys", "Set SEGMENT_SOURCE_ID"),
        (other_source, 78, "source", "error", "has no source 'elsewhere'", "Correct SEGMENT_SOURCE_ID"),
    ],
)
def test_check_names_what_segment_would_not_keep(
    proving: Machine,
    change: Callable[[Machine], None],
    code: int,
    thing: str,
    grade: str,
    says: str,
    todo: str,
) -> None:
    change(proving)
    ended, found = check(proving)
    assert ended == code
    assert found[thing][0] == grade
    assert says in found[thing][1]
    assert todo in found[thing][2]


# --- counts ---


def age(machine: Machine, hours: int) -> None:
    """Let what was sent and counted until now be so many hours old, and Segment be asked again."""
    api = machine.sandbox.segment.public_api
    api.counted = [replace(each, at=each.at - hours * HOUR) for each in api.counted]
    database = machine.database()
    with database.write() as db:
        for row in db.execute(select(deliveries)).all():
            mine = [deliveries.c[name] == getattr(row, name) for name in ("connection", "write_key", "event")]
            older = update(deliveries).where(*mine, deliveries.c.hour == row.hour)
            db.execute(older.values(hour=row.hour - hours * HOUR))
        for asked in db.execute(select(proofs)).all():
            db.execute(update(proofs).values(compared_at=asked.compared_at - hours * HOUR))
    database.close()


def verified(machine: Machine, *words: str) -> tuple[int, dict[str, Any]]:
    ended = machine.run("verify", "--output", "json", *words)
    assert ended.json["exit"] == ended.code
    return ended.code, ended.connection


def test_all_that_was_sent_is_there(proving: Machine) -> None:
    assert proving.run("sync").code == 0
    age(proving, 30)
    code, found = verified(proving)
    assert (code, found["missing"], found["problems"]) == (0, 0, [])
    assert sum(hour["sent"] for hour in found["hours"]) == len(proving.sandbox.segment.messages)
    assert all(hour["sent"] == hour["received"] for hour in found["hours"])


def test_identify_calls_are_not_compared(make: Make) -> None:
    """Segment's counts are by event name, and they have none."""
    proving = make(made_up(plan="scale"), extra={"BEAMER_IDENTIFY": "true"})
    proving.extra |= proof_environment(proving.served, proving.sandbox)
    assert proving.run("sync").code == 0
    age(proving, 30)
    code, found = verified(proving)
    assert (code, found["missing"], found["problems"]) == (0, 0, [])
    calls = Counter(message["type"] for message in proving.sandbox.segment.messages)
    assert calls["identify"] > 10
    assert sum(hour["sent"] for hour in found["hours"]) == calls["track"]


def test_events_lost_after_the_200_are_found_and_sent_again_as_printed(proving: Machine) -> None:
    segment = proving.sandbox.segment
    segment.loses = lambda message: (
        message["event"] == "Post Commented" and crc32(message["messageId"].encode()) % 3 == 0
    )
    assert proving.run("sync").code == 0
    lost = len(segment.lost)
    assert lost
    before = landed(proving.sandbox)
    segment.loses = lambda _: False
    age(proving, 30)
    # The next sync asks by itself, and is not disturbed.
    assert proving.run("sync").code == 0
    status = proving.run("status", "--output", "json").connection
    assert status["health"] == "missing"
    assert f"Segment has not counted {lost} message" in status["why"]
    code, found = verified(proving)
    assert (code, found["missing"]) == (69, lost)
    [problem] = found["problems"]
    [printed] = re.findall("`(.*)`", problem["todo"])
    words = shlex.split(printed)
    assert words[:2] == ["beamer-segment", "backfill"]
    assert proving.run(*words[1:], "--yes").code == 0
    now = landed(proving.sandbox)
    assert len(now) == len(before) + lost
    assert set(now.values()) == {1}
    age(proving, 30)
    assert verified(proving)[0] == 0
    assert proving.run("status", "--output", "json").connection["health"] == "healthy"


def test_counts_that_come_late_are_waited_for(proving: Machine) -> None:
    assert proving.run("sync").code == 0
    age(proving, 5)
    proving.sandbox.segment.public_api.lag = 10 * 3_600
    code, found = verified(proving)
    assert (code, found["missing"], found["problems"]) == (0, 0, [])
    assert {hour["received"] for hour in found["hours"]} == {0}
    assert {hour["settled"] for hour in found["hours"]} == {False}
    age(proving, 30)
    proving.sandbox.segment.public_api.lag = 40 * 3_600
    assert verified(proving)[0] == 69
    proving.sandbox.segment.public_api.lag = 0
    assert verified(proving)[0] == 0


def test_what_segment_filters_is_named(proving: Machine) -> None:
    proving.sandbox.segment.sources[0].blocked = {"Post Commented"}
    assert proving.run("sync").code == 0
    age(proving, 30)
    code, found = verified(proving)
    assert (code, found["missing"]) == (69, 0)
    assert found["discarded"] == len(proving.sandbox.segment.dropped)
    [problem] = found["problems"]
    assert "did not keep them: Post Commented (" in problem["found"]
    # A token that may not see it still shows what was received.
    proving.sandbox.segment.public_api.offers_overview = False
    code, found = verified(proving)
    assert (code, found["discarded"]) == (69, 0)
    assert found["missing"] == len(proving.sandbox.segment.dropped)


@pytest.mark.parametrize("change", [other_key, disabled])
def test_a_source_that_keeps_nothing_is_named_at_once(
    proving: Machine, change: Callable[[Machine], None]
) -> None:
    change(proving)
    assert proving.run("sync").code == 0
    assert not proving.sandbox.segment.messages
    status = proving.run("status", "--output", "json").connection
    assert status["health"] == "missing"


def test_another_sender_is_no_problem(proving: Machine) -> None:
    assert proving.run("sync").code == 0
    api = proving.sandbox.segment.public_api
    api.counted += [each for each in api.counted if each.event == "Post Commented"]
    age(proving, 30)
    code, found = verified(proving)
    assert code == 0
    assert sum(hour["more"] for hour in found["hours"]) > 0


def test_sync_asks_once_an_hour_and_never_fails_over_it(proving: Machine) -> None:
    def asked() -> int:
        return sum("/sources" in seen.path for seen in proving.sandbox.requests)

    assert proving.run("sync").code == 0
    first = asked()
    assert first
    assert proving.run("sync").code == 0
    assert asked() == first
    age(proving, 1)
    proving.extra["SEGMENT_PUBLIC_API_TOKEN"] = "revoked"  # noqa: S105
    ended = proving.run("sync", "--output", "json")
    assert (ended.code, ended.json["exit"]) == (0, 0)
    assert asked() > first
    problems = proving.run("status", "--output", "json").connection["problems"]
    assert any("What Segment counts is not known" in problem["found"] for problem in problems)


def test_the_token_is_never_shown(make: Make) -> None:
    machine = make()
    machine.extra |= proof_environment(machine.served, machine.sandbox) | {"LOG_LEVEL": "debug"}
    token = machine.extra["SEGMENT_PUBLIC_API_TOKEN"]
    for words in (["check"], ["sync"], ["verify"], ["config", "show"]):
        ended = machine.run(*words)
        assert token not in ended.out + ended.err


# --- a changed write key ---

NEW = "new-write-key"


def a_waiting_row(machine: Machine) -> None:
    stamp = machine.sandbox.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    machine.sandbox.world.add("nps", None, date=stamp, score=9, feedback="Good", userId="u-1")
    assert machine.run("sync", "--no-deliver").code == 0


def delivered_to(machine: Machine) -> dict[str, int]:
    return Counter(each.write_key for each in machine.sandbox.segment.landed)


@pytest.mark.parametrize("both", [True, False])
def test_a_rotated_write_key_goes_on_with_what_waits(proving: Machine, both: bool) -> None:
    """The former key may still be the source's, or not any more."""
    assert proving.run("sync").code == 0
    a_waiting_row(proving)
    keys = proving.sandbox.segment.write_keys
    proving.sandbox.segment.write_keys = {*keys, NEW} if both else {NEW}
    proving.extra["SEGMENT_WRITE_KEY"] = NEW
    ended = proving.run("sync", "--output", "json")
    assert (ended.code, ended.connection["waiting_for_former_key"]) == (0, 0)
    assert ended.connection["notices"] == ["default: the new Segment write key belongs to the same source"]
    assert delivered_to(proving)[NEW] == 1
    age(proving, 30)
    # Counts under both keys are those of one source.
    code, found = verified(proving)
    assert (code, found["missing"]) == (0, 0)
    assert sum(hour["sent"] for hour in found["hours"]) == len(proving.sandbox.segment.messages)


@pytest.mark.parametrize("known", [True, False])
def test_a_write_key_of_another_source_is_refused(proving: Machine, known: bool) -> None:
    """Another source of the workspace, or of none that the token shows."""
    assert proving.run("sync").code == 0
    a_waiting_row(proving)
    if known:
        proving.sandbox.segment.sources.append(Source("another-source", {NEW}))
    proving.extra["SEGMENT_WRITE_KEY"] = NEW
    ended = proving.run("sync", "--output", "json")
    assert (ended.code, ended.connection["error"]["code"]) == (78, "BS-081")
    assert ("of source 'another-source'" if known else "of no source in the workspace") in ended.err
    assert "give another source another segment_destination" in ended.err.lower()
    assert "backfill --since DATE --resend" in ended.err
    assert proving.run("backfill", "--since", "2026-01-01", "--yes").code == 78
    assert NEW not in delivered_to(proving)
    # Either choice goes on.
    proving.extra["SEGMENT_DESTINATION"] = "another"
    assert proving.run("sync").code == 0
    proving.extra.pop("SEGMENT_DESTINATION")


def test_another_source_may_be_confirmed(proving: Machine) -> None:
    assert proving.run("sync").code == 0
    a_waiting_row(proving)
    proving.sandbox.segment.sources.append(Source("another-source", {NEW}))
    proving.extra["SEGMENT_WRITE_KEY"] = NEW
    assert proving.run("sync").code == 78
    assert proving.run("state", "accept-keys").code == 0
    assert proving.run("sync").code == 0
    assert delivered_to(proving)[NEW] == 1


def test_without_an_answer_a_changed_write_key_is_told_once(machine: Machine) -> None:
    assert machine.run("sync").code == 0
    machine.sandbox.segment.write_keys = {NEW}
    machine.extra["SEGMENT_WRITE_KEY"] = NEW
    told = [machine.run("sync", "--output", "json").connection["notices"] for _ in range(2)]
    assert [len(each) for each in told] == [1, 0]
    assert "whether it belongs to the same source is not known" in told[0][0]

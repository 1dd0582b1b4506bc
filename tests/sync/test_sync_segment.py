"""Segment going wrong: what it refuses is found, the others go through, and nothing is lost."""

import json
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Answer, Company, Request
from connector.state import outbox
from tests.harness import Rig, landed, sandbox

TYPE = {"Content-Type": "application/json"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return answers(tmp_path, 250)


def answers(path: Path, count: int) -> Rig:
    box = sandbox(company=Company.empty())
    for _ in range(count):
        box.world.add("nps", userId="u", feedback="Good", score=9)
    return Rig(box, f"sqlite:///{path / 'state.sqlite'}")


def batch(request: Request) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(zlib.decompress(request.body, 31))["batch"]
    return found


def refuse(which: Callable[[str], bool], status: int = 400) -> Callable[[Request], Answer | None]:
    """Refuse every batch that holds one of these."""

    def step(request: Request) -> Answer | None:
        if any(which(message["properties"]["nps_id"]) for message in batch(request)):
            return Answer(status, b'{"success": false, "code": "invalid", "message": "no"}', dict(TYPE))
        return None

    return step


def dead(rig: Rig) -> list[Any]:
    return list(outbox.listed(rig.database, "default", "dead", 1_000))


def mend(rig: Rig) -> None:
    rig.sandbox.faults.clear()
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.waiting) == (0, 0)
    rig.check()
    rig.close()


def ids(rig: Rig) -> list[str]:
    return [row.id for row in rig.sandbox.world.rows("nps")]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_message_goes_to_the_dead_letters_and_the_others_go_through(rig: Rig, status: int) -> None:
    bad = ids(rig)[57]
    rig.sandbox.faults.script("segment", [refuse(lambda name: name == bad, status)] * 400)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, outcome.report.sent) == (0, 1, 249)
    (message,) = dead(rig)
    assert str(status) in message["answer"]
    assert rig.sync().report.refused == 0
    outbox.retry(rig.database, "default", [])
    mend(rig)


def test_many_refused_ones_at_the_head_do_not_hold_up_the_others(rig: Rig) -> None:
    bad = set(sorted(ids(rig))[:30])
    rig.sandbox.faults.script("segment", [refuse(lambda name: name in bad)] * 900)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, outcome.report.sent) == (0, 30, 220)
    assert len(dead(rig)) == 30
    rig.close()


@pytest.mark.parametrize("status", [400, 404, 413])
def test_if_everything_is_refused_nothing_is_wrong_with_the_messages(rig: Rig, status: int) -> None:
    rig.sandbox.faults.script("segment", [refuse(lambda _: True, status)] * 900)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, outcome.report.waiting) == (69, 0, 250)
    assert not dead(rig)
    mend(rig)


AWAY = ["reset_before", "hang_before", "status_500", "html_502", "html_200", "truncated", "redirect", "busy"]


@pytest.mark.parametrize("fault", [*AWAY, "reset_after", "hang"])
def test_segment_being_away_keeps_rows_waiting_and_the_reading_goes_on(rig: Rig, fault: str) -> None:
    rig.sandbox.faults.apis = ("segment",)
    setattr(rig.sandbox.faults, fault.replace("hang_before", "hang"), 1.0)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.waiting, outcome.report.sent) == (69, 250, 0)
    assert outcome.report.new["nps"] == 250
    mend(rig)


@pytest.mark.parametrize("fault", ["reset_after", "hang", "truncated"])
def test_what_arrived_unconfirmed_is_sent_again_under_the_same_id(rig: Rig, fault: str) -> None:
    rig.sandbox.faults.script("segment", [fault])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.sent, outcome.report.possible_doubles) == (0, 250, 0)
    assert len(rig.sandbox.segment.duplicates) == 100
    mend(rig)


def test_an_unconfirmed_batch_of_yesterday_counts_as_a_possible_double(rig: Rig) -> None:
    rig.sandbox.faults.script("segment", ["reset_after"] * 4)
    assert rig.sync().report.waiting == 250
    rig.sandbox.advance(timedelta(hours=21))
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.sent, outcome.report.possible_doubles) == (0, 250, 100)
    rig.close()


def test_retry_after_is_waited_for(rig: Rig) -> None:
    busy = ("answer", 429, b"{}", {"Retry-After": "17", **TYPE})
    rig.sandbox.faults.script("segment", [busy, busy])
    before = rig.clock.slept
    assert rig.sync().exit == 0
    assert rig.clock.slept - before >= 34
    mend(rig)


def test_what_is_sent_again_says_how_often_it_was_sent(rig: Rig) -> None:
    counts: list[str | None] = []

    def step(request: Request) -> Answer | None:
        counts.append(request.headers.get("x-retry-count"))
        return Answer(503, b"{}", dict(TYPE)) if len(counts) < 3 else None

    rig.sandbox.faults.script("segment", [step] * 9)
    assert rig.sync().exit == 0
    assert counts == [None, "1", "2", None, None]
    mend(rig)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wish", ["31", "3600", "86400", "9" * 30, "Thu, 31 Dec 2099 23:59:59 GMT"])
def test_a_long_retry_after_does_not_keep_beamer_from_being_read(rig: Rig, status: int, wish: str) -> None:
    busy = ("answer", status, b"{}", {"Retry-After": wish, **TYPE})
    for read in (250, 251):
        rig.sandbox.faults.script("segment", [busy])
        before, tried = rig.clock.slept, len(rig.sandbox.requests)
        outcome = rig.sync()
        report = outcome.report
        assert (outcome.exit, report.sent, report.waiting) == (69, 0, read)
        assert outcome.error
        assert "asks for a pause of more than" in outcome.error.what
        assert rig.clock.slept - before < 30
        assert sum(seen.api == "segment" for seen in rig.sandbox.requests[tried:]) == 1
        rig.sandbox.faults.clear()
        rig.sandbox.advance(timedelta(hours=1))
        rig.sandbox.world.add("nps", userId="u", feedback="Good", score=9)
    mend(rig)


def test_a_200_that_does_not_say_success_confirms_nothing(rig: Rig) -> None:
    for body in (b"", b"{}", b'{"success": false}', b"[]", b"<html>"):
        rig.sandbox.faults.script("segment", [("answer", 200, body, TYPE)] * 4)
        outcome = rig.sync()
        assert (outcome.exit, outcome.report.sent, outcome.report.waiting) == (69, 0, 250)
    mend(rig)


def test_a_refused_write_key_is_77_and_keeps_everything(rig: Rig) -> None:
    rig.sandbox.faults.script("segment", [("answer", 401, b"{}", TYPE)] * 9)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.waiting) == (77, 250)
    assert rig.sandbox.write_key not in str(outcome.error)
    mend(rig)


def test_collected_without_delivering_and_delivered_later(rig: Rig) -> None:
    outcome = rig.sync(deliver=False)
    assert (outcome.exit, outcome.report.waiting, outcome.report.sent) == (0, 250, 0)
    assert not landed(rig.sandbox)
    mend(rig)


def test_when_too_much_waits_nothing_more_is_read(tmp_path: Path) -> None:
    rig = answers(tmp_path, 350)
    rig.sandbox.faults.script("segment", ["redirect"] * 9)
    rig.most_waiting = 150
    outcome = rig.sync()
    assert outcome.exit == 69
    assert 150 <= outcome.report.waiting <= 250
    assert "waits for Segment" in str(outcome.report.stopped)
    mend(rig)


def test_when_what_waits_weighs_too_much_not_even_a_request_is_spent(tmp_path: Path) -> None:
    rig = answers(tmp_path, 350)
    rig.sandbox.faults.script("segment", ["redirect"] * 9)
    rig.most_bytes = 30_000
    first = rig.sync()
    assert 0 < first.report.waiting < 350
    second = rig.sync()
    assert (second.exit, second.report.requests_spent) == (69, 0)
    assert "waits for Segment" in str(second.report.stopped)
    mend(rig)

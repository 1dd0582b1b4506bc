"""What no counter shows, an audit finds: by itself among the other probes, and on demand."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.beamer.streams import CATALOGUE
from connector.domain.budget import Limits
from connector.domain.period import EPOCH
from connector.sandbox import Company, Switches
from connector.state import progress
from connector.sync.lists.count_windows import Window
from connector.sync.planning import candidates
from connector.sync.planning.audit import AuditEverything, audits
from connector.sync.planning.probes import PlanInputs, Probe
from connector.sync.planning.start import UnlimitedPlanner
from connector.sync.run import Outcome, Run
from tests.harness import Rig, sandbox
from tests.sandbox import Sandbox

USER = {"userId": "u-1"}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def account() -> tuple[Sandbox, str]:
    """A post with three comments, a request with a vote, and NPS responses on ten days."""
    box = sandbox(company=Company.empty())

    def add(stream: str, parent: str | None, days: float) -> str:
        date = box.now() - days * DAY
        return box.world.add(stream, parent, date=date, appears=date, **USER)

    post = add("posts", None, 20)
    for days in (19, 18, 17):
        add("comments", post, days)
    request = add("feature_requests", None, 21)
    add("feature_request_votes", request, 20)
    for number in range(240):
        add("nps", None, 0.55 + number / 10)
    return box, post


def rig(box: Sandbox, path: Path, **options: Any) -> Rig:
    return Rig(box, f"sqlite:///{path / 'state.sqlite'}", **options)


def cancel_out(box: Sandbox, post: str) -> str:
    """A comment goes and another comes between two checks: the counter stands where it stood."""
    box.world.delete("comments", box.world.row_list("comments", post).rows[0].id)
    return box.world.add("comments", post, **USER)


def audit(found: Rig, **options: Any) -> Outcome:
    planner = AuditEverything(found.clock.now() - HOUR)
    return Run(replace(found.context(), planner=planner), command="audit", **options).go()


def test_an_audit_on_demand_finds_what_cancelled_out(tmp_path: Path) -> None:
    box, post = account()
    connector = rig(box, tmp_path)
    connector.sync()
    box.advance(2 * DAY)
    cancel_out(box, post)
    assert connector.sync().report.sent == 0
    box.advance(2 * HOUR)
    outcome = audit(connector)
    assert (outcome.exit, dict(outcome.report.missing), outcome.report.sent) == (0, {"comments": 1}, 1)
    connector.check()
    # What was read whole is not read again within the hour.
    assert audit(connector).report.missing == {}
    connector.close()


def test_rows_that_cannot_be_used_are_not_missing_and_speak_against_no_counter(tmp_path: Path) -> None:
    """They come without a word: something else is wrong with them since they were quarantined."""
    box, post = account()
    bad = [box.world.add("comments", post, text={"not": "this"}, **USER) for _ in range(6)]
    connector = rig(box, tmp_path)
    connector.sync()
    for name in bad:
        box.world.set("comments", name, text="well", userId={"nor": "that"})
    box.advance(2 * HOUR)
    report = audit(connector).report
    assert (dict(report.quarantined), report.missing) == ({"comments": 6}, {})
    state = progress.load_readonly(connector.database, "default").streams["comments"]
    assert (state.silent, state.distrusted) == (0.0, False)
    connector.close()


def test_rows_that_cannot_be_used_are_quarantined_once_for_ever(tmp_path: Path) -> None:
    """What is kept of them for 30 days is their text; --strict fails once."""
    box, post = account()
    box.world.add("comments", post, text={"not": "this"}, **USER)
    connector = rig(box, tmp_path)
    assert connector.sync().report.quarantined == {"comments": 1}
    box.advance(31 * DAY)
    connector.sync()
    box.advance(2 * HOUR)
    before = connector.beamer_requests
    assert audit(connector).report.quarantined == {}
    assert any(seen.path.endswith("/comments") for seen in box.requests[before:])
    connector.close()


@pytest.mark.parametrize("limits", [Limits(None, 0, 30), Limits(3_000, 0, 30)])
def test_syncs_audit_by_themselves(tmp_path: Path, limits: Limits) -> None:
    box, post = account()
    connector = rig(box, tmp_path, limits=limits)
    connector.sync()
    box.advance(HOUR)
    cancel_out(box, post)
    for _ in range(20):
        box.advance(DAY)
        connector.sync()
    connector.check()
    connector.close()


def some_days(connector: Rig, days: int = 10) -> tuple[Counter[str], Counter[str]]:
    """Syncs over more than a week, in which each list has its turn: what was missing, what was audited."""
    missing, audited = Counter[str](), Counter[str]()
    for _ in range(days):
        connector.sandbox.advance(DAY)
        report = connector.sync().report
        missing += report.missing
        audited += report.audited
    return missing, audited


def late_nps(box: Sandbox, days: float) -> str:
    date = box.now() - days * DAY
    return box.world.add("nps", None, date=date, **USER)


def test_counts_find_a_response_older_than_any_lookback(tmp_path: Path) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    late_nps(box, 15)
    missing, audited = some_days(connector)
    assert missing == {"nps": 1}
    # One count for all days, then halves: twice the log2 of the days, and a page of one of them.
    assert 5 < audited["nps"] < 25
    connector.check()
    connector.close()


def test_what_was_deleted_is_not_looked_for_twice(tmp_path: Path) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    gone = box.world.row_list("nps").rows[150].id
    box.world.delete("nps", gone)
    missing, audited = some_days(connector)
    assert missing == {}
    assert audited["nps"] > 5
    missing, audited = some_days(connector)
    assert (missing, audited["nps"]) == ({}, 1)
    connector.close()


def cancel_out_nps(box: Sandbox) -> None:
    """One response goes and another comes belatedly, on another day: there are as many as there were."""
    box.world.delete("nps", box.world.row_list("nps").rows[-30].id)
    late_nps(box, 12)


def counting(box: Sandbox, answer: bytes) -> None:
    """Every count of responses is answered so."""
    counts: tuple[str, int, bytes, dict[str, str]] = ("answer", 200, answer, {})
    box.faults.on(lambda request: request.path.endswith("/nps/count"), [counts] * 1000)


@pytest.mark.parametrize("count", [b'"240"', b'" 240 "', b"240.0", b'"240.0"'])
def test_a_count_is_read_as_leniently_as_any_number(tmp_path: Path, count: bytes) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    counting(box, b'{"count": %s}' % count)
    box.advance(8 * DAY)
    outcome = connector.sync()
    assert (outcome.exit, outcome.report.troubles) == (0, [])
    assert outcome.report.audited["nps"] == 1
    connector.close()


@pytest.mark.parametrize(
    "answer", [b'{"count": "many"}', b'{"count": -1}', b'{"count": true}', b"{}", b"[240]"]
)
def test_what_is_no_count_is_not_asked_for_again_and_again(tmp_path: Path, answer: bytes) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    counting(box, answer)
    box.advance(8 * DAY)
    for _ in range(3):
        outcome = connector.sync()
        assert (outcome.exit, outcome.report.troubles) == (0, [])
        box.advance(HOUR)
    assert sum(seen.path.endswith("/nps/count") for seen in box.requests) == 1
    connector.check()
    connector.close()


def test_an_audit_on_demand_believes_no_count(tmp_path: Path) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    box.advance(4 * HOUR)
    cancel_out_nps(box)
    before = connector.beamer_requests
    outcome = audit(connector)
    assert dict(outcome.report.missing) == {"nps": 1}
    # Three counts, and a page for each quarter; the rest are the other lists.
    assert connector.beamer_requests - before < 20
    connector.check()
    connector.close()


def test_what_fits_on_a_page_is_read_instead_of_believed(tmp_path: Path) -> None:
    # Newest first, the only page would show what came belatedly at the next check.
    box = sandbox(company=Company.empty(), switches=Switches(order="oldest"))
    for number in range(60):
        date = box.now() - (0.55 + number / 4) * DAY
        box.world.add("nps", None, date=date, appears=date, **USER)
    connector = rig(box, tmp_path)
    connector.sync()
    box.advance(4 * HOUR)
    cancel_out_nps(box)
    assert some_days(connector)[0] == {"nps": 1}
    connector.check()
    connector.close()


@pytest.mark.parametrize(
    ("count", "held", "thorough", "days", "asked"),
    [
        (0, 0, True, 8, []),
        (60, 60, False, 8, [("read", 8)]),
        (60, 59, False, 8, [("read", 8)]),
        (101, 101, False, 8, []),
        (101, 101, True, 8, [("read", 4), ("read", 4)]),
        (400, 400, True, 8, [("count", 4), ("count", 4)]),
        (400, 400, True, 1, [("read", 1)]),
        (101, 100, False, 8, [("count", 4), ("count", 4)]),
        (101, 100, True, 8, [("count", 4), ("count", 4)]),
        (101, 100, False, 1, [("read", 1)]),
        (0, 5, False, 1, [("read", 1)]),
    ],
)
def test_what_follows_from_a_count(
    count: int, held: int, thorough: bool, days: int, asked: list[tuple[str, int]]
) -> None:
    window = Window(20_000, 20_000 + days, EPOCH)
    probe = replace(candidates.count_probe(CATALOGUE["nps"], window, thorough=thorough), whole=days > 1)
    by_day = {20_000 + day: held // days + (day < held % days) for day in range(days)}
    found = candidates.behind_count(probe, window, count, by_day)
    whats = ["count" if each.counts else "read" for each in found]
    lengths = [each.window.end - each.window.first for each in found if each.window]
    assert list(zip(whats, lengths, strict=True)) == asked
    assert all(each.thorough == thorough for each in found if each.counts)


def test_an_audit_cut_short_goes_on_where_it_stood(tmp_path: Path) -> None:
    box, post = account()
    connector = rig(box, tmp_path)
    connector.sync()
    box.advance(2 * DAY)
    cancel_out(box, post)
    connector.sync()
    box.advance(2 * HOUR)
    began: datetime = connector.clock.now()
    for _ in range(12):
        planner = AuditEverything(began)
        outcome = Run(replace(connector.context(), planner=planner), command="audit", most_requests=2).go()
        if outcome.report.stopped is None:
            break
    connector.check()
    connector.close()


def many_quiet(posts: int, empty: int) -> tuple[Sandbox, str]:
    """So many posts with three comments each, and so many more without any; and some NPS responses."""
    box = sandbox(company=Company.empty())
    for number in range(posts + empty):
        date = box.now() - (20 - number / 10) * DAY
        post = box.world.add("posts", None, date=date, appears=date)
        for hours in range(3 if number < posts else 0):
            written = date + (hours + 1) * HOUR
            box.world.add("comments", post, date=written, appears=written, **USER)
    for number in range(120):
        date = box.now() - (0.55 + number / 8) * DAY
        box.world.add("nps", None, date=date, appears=date, **USER)
    return box, box.world.rows("posts")[0].id


@pytest.mark.parametrize("limits", [Limits(None, 0, 30), Limits(3_000, 0, 30)])
def test_lists_that_are_empty_or_gone_keep_no_other_from_its_audit(tmp_path: Path, limits: Limits) -> None:
    """Twenty of them were picked first, dropped, and picked again at every run."""
    box, post = many_quiet(4, 45)
    connector = rig(box, tmp_path, limits=limits)
    connector.sync()
    for gone in box.world.rows("posts")[-22:]:
        box.world.delete("posts", gone.id)
    box.advance(HOUR)
    cancel_out(box, post)
    missing, _ = some_days(connector, 20)
    assert missing["comments"] == 1
    connector.close()


def test_counts_come_before_the_audits_of_many_lists(tmp_path: Path) -> None:
    box, _ = many_quiet(60, 0)
    connector = rig(box, tmp_path)
    connector.sync()
    late_nps(box, 15)
    assert some_days(connector)[0]["nps"] == 1
    connector.close()


@pytest.mark.parametrize("thorough", [False, True])
def test_an_audit_by_counts_goes_on_in_the_next_run(tmp_path: Path, thorough: bool) -> None:
    """A request at a time, each run began with the count of all, and counted as an audit by it."""
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    late_nps(box, 15)
    began, missing = connector.clock.now() + DAY, Counter[str]()
    for number in range(60):
        box.advance(DAY if number == 0 else HOUR / 2)
        planner = AuditEverything(began) if thorough else OnlyCounts()
        outcome = Run(replace(connector.context(), planner=planner), most_requests=1 + 3 * thorough).go()
        missing += outcome.report.missing
        if outcome.report.stopped is None:
            break
    assert number > 1
    assert missing["nps"] == 1
    connector.check()
    connector.close()


class OnlyCounts(UnlimitedPlanner):
    """What has no counters, and nothing else."""

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        return [probe for probe in audits(inputs, now) if probe.window]


def test_an_audit_on_demand_reads_lists_that_have_moved_as_a_whole(tmp_path: Path) -> None:
    """What the counter announced was found, and what a deletion had hidden below the lookback was not."""
    box, post = account()
    for number in range(12):
        date = box.now() - (12 + number / 10) * DAY
        box.world.add("comments", post, date=date, appears=date, **USER)
    connector = rig(box, tmp_path)
    connector.sync()
    box.advance(4 * HOUR)
    box.world.delete("comments", box.world.row_list("comments", post).rows[0].id)
    hidden = box.now() - 10 * DAY
    box.world.add("comments", post, date=hidden, **USER)
    connector.sync()
    box.world.add("comments", post, **USER)
    audit(connector)
    connector.check()
    connector.close()

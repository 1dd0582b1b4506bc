"""What no counter shows, an audit finds: by itself among the other probes, and on demand."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Company, Sandbox
from connector.state.ledger import Limits
from connector.sync.auditing import AuditEverything
from connector.sync.run import Run
from connector.sync.running import Outcome
from tests.harness import Rig, sandbox

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
    """A comment goes and another comes between two looks: the counter stands where it stood."""
    box.world.delete("comments", box.world.shelf("comments", post).rows[0].id)
    return box.world.add("comments", post, **USER)


def audit(found: Rig, **options: Any) -> Outcome:
    planner = AuditEverything(found.clock.now() - HOUR)
    return Run(replace(found.parts(), planner=planner), command="audit", **options).go()


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


def late_nps(box: Sandbox, days: float) -> str:
    date = box.now() - days * DAY
    return box.world.add("nps", None, date=date, **USER)


def test_counts_find_a_response_older_than_any_lookback(tmp_path: Path) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    box.advance(2 * HOUR)
    late_nps(box, 15)
    before = connector.beamer_requests
    outcome = audit(connector)
    assert dict(outcome.report.missing) == {"nps": 1}
    # One count for all days, then halves: twice the log2 of the days, and a page of one of them.
    assert connector.beamer_requests - before < 25
    connector.check()
    connector.close()


def test_what_was_deleted_is_not_looked_for_twice(tmp_path: Path) -> None:
    box, _ = account()
    connector = rig(box, tmp_path)
    connector.sync()
    gone = box.world.shelf("nps").rows[150].id
    box.world.delete("nps", gone)
    box.advance(2 * HOUR)
    first = audit(connector)
    assert first.report.missing == {}
    assert first.report.audited["nps"] > 5
    box.advance(2 * HOUR)
    second = audit(connector)
    assert second.report.audited["nps"] == 1
    connector.close()


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
        outcome = Run(replace(connector.parts(), planner=planner), command="audit", most_requests=2).go()
        if outcome.report.stopped is None:
            break
    connector.check()
    connector.close()

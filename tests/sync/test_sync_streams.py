"""Which lists are read for which streams, and what a setting holds back."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from connector.beamer.streams import CATALOGUE
from connector.domain.state import Verdict
from connector.sandbox import Company
from connector.segment.shaping import Privacy
from connector.state.progress import load_readonly
from connector.state.tables import rows
from connector.sync.planning import candidates
from tests.harness import ALL, Rig, sandbox

USER = {"userId": "u-1"}
HOUR = timedelta(hours=1)
TEAM = {"internalUserEmail": "ann@company.example"}


def account(path: Path, **options: Any) -> Rig:
    box = sandbox(company=Company.empty())
    post = box.world.add("posts")
    request = box.world.add("feature_requests", **USER)
    box.world.add("comments", post, **USER)
    box.world.add("comments", post, userId="")
    box.world.add("reactions", post, **USER)
    box.world.add("feature_request_comments", request, **USER)
    box.world.add("feature_request_comments", request, **TEAM)
    box.world.add("feature_request_votes", request, **USER)
    box.world.add("nps", feedback="Good", **USER)
    return Rig(box, f"sqlite:///{path / 'state.sqlite'}", **options)


def verdicts(rig: Rig) -> dict[Verdict, int]:
    query = select(rows.c.verdict, func.count()).group_by(rows.c.verdict)
    with rig.database.read() as db:
        return {Verdict(verdict): count for verdict, count in db.execute(query)}


READS = {
    frozenset({"nps"}): {"nps"},
    frozenset({"posts"}): {"posts"},
    frozenset({"comments"}): {"posts", "comments"},
    frozenset({"comments", "reactions", "nps"}): {"posts", "comments", "reactions", "nps"},
    frozenset({"feature_request_votes"}): {"feature_requests", "feature_request_votes"},
    ALL: set(ALL),
}


@pytest.mark.parametrize("streams", READS, ids=lambda streams: "+".join(sorted(streams))[:40])
def test_a_stream_that_is_not_listed_costs_no_request(tmp_path: Path, streams: frozenset[str]) -> None:
    rig = account(tmp_path, streams=streams)
    outcome = rig.sync()
    assert set(outcome.report.requests) == READS[streams]
    rig.check(streams)
    assert rig.sync().report.sent == 0
    rig.close()


def test_posts_read_for_their_comments_only_are_recorded_as_excluded(tmp_path: Path) -> None:
    rig = account(tmp_path, streams=frozenset({"comments"}))
    outcome = rig.sync()
    assert dict(outcome.report.excluded) == {"stream_off": 1, "no_user": 1}
    assert verdicts(rig) == {Verdict.EVENT: 1, Verdict.NO_USER: 1, Verdict.STREAM_OFF: 1}
    rig.close()


def test_a_stream_listed_later_is_read_from_the_start_date(tmp_path: Path) -> None:
    rig = account(tmp_path, streams=frozenset({"comments"}))
    rig.sync()
    rig.streams = frozenset({"comments", "reactions", "nps"})
    assert rig.sync().report.sent == 2
    rig.check(rig.streams)
    rig.close()


def test_excluded_rows_stay_excluded_when_a_setting_changes(tmp_path: Path) -> None:
    rig = account(tmp_path)
    first = rig.sync()
    assert dict(first.report.excluded) == {"no_user": 1, "team": 1}
    rig.privacy, rig.settings = Privacy(anonymous="shared"), {"team_comments": True}
    assert rig.sync().report.sent == 0
    assert verdicts(rig)[Verdict.TEAM] == 1
    rig.close()


def test_the_plan_of_a_dry_run(tmp_path: Path) -> None:
    rig = account(tmp_path)
    rig.sync()
    progress, policy = load_readonly(rig.database, "default"), rig.context().policy
    probes = candidates.first_probes(rig.catalogue, policy, progress, None, rig.clock.now())
    assert candidates.cost(probes) == {"nps": 1, "posts": 1, "feature_requests": 1}
    assert candidates.waiting_children(rig.catalogue, policy, progress, None, rig.clock.now()) == []
    rig.close()


def test_streams_say_how_far_they_are_complete(tmp_path: Path) -> None:
    rig = account(tmp_path)
    rig.sandbox.switches.may_read.discard("posts")
    rig.sync()
    streams = load_readonly(rig.database, "default").streams
    assert {name for name in ALL if streams[name].complete_through is None} == {
        "posts",
        "comments",
        "reactions",
    }
    assert "403" in str(streams["posts"].trouble)
    rig.sandbox.switches.may_read.add("posts")
    rig.sync()
    streams = load_readonly(rig.database, "default").streams
    assert all(streams[name].complete_through and not streams[name].trouble for name in ALL)
    rig.close()


def test_a_run_for_one_stream_does_not_make_another_one_complete(tmp_path: Path) -> None:
    """Its looks at the posts are looks for their reactions, too: what came there is seen to wait."""
    rig = account(tmp_path)
    box = rig.sandbox
    rig.sync()
    box.advance(HOUR)
    came = box.now()
    box.world.add("reactions", box.world.posts_shown()[0].id, **USER)
    box.advance(HOUR)
    rig.catalogue = {name: CATALOGUE[name] for name in ("posts", "comments")}
    assert set(rig.sync().report.requests) == {"posts"}
    rig.catalogue = CATALOGUE
    rig.sync(most_requests=0)  # as what waits is delivered
    through = load_readonly(rig.database, rig.name).streams["reactions"].complete_through
    assert through is not None
    assert through < came
    assert rig.sync().report.events == {"reactions": 1}
    rig.close()


def test_after_a_refused_key_nothing_is_called_complete(tmp_path: Path) -> None:
    rig = account(tmp_path, streams=frozenset({"nps"}), api_key="wrong")
    assert rig.sync().exit == 77
    assert load_readonly(rig.database, "default").streams["nps"].complete_through is None
    rig.close()

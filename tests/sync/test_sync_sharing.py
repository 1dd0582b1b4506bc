"""Several connections draw on one account's budget: none of them gets it all."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from connector.domain.budget import Limits
from connector.errors import Busy
from connector.sandbox import Company
from connector.state import connections, leases, outbox, progress
from connector.state.leases import this_process
from connector.state.outbox import Outbox
from connector.sync.run import Run
from tests.harness import Rig, sandbox

HOUR = timedelta(hours=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("apart", "alone"),
    [
        (timedelta(0), 0),
        (HOUR / 2, 3),
        pytest.param(timedelta(0), 3, marks=pytest.mark.long),
        pytest.param(HOUR / 2, 0, marks=pytest.mark.long),
    ],
)
def test_each_of_two_connections_comes_to_see_everything(
    tmp_path: Path, apart: timedelta, alone: int
) -> None:
    """Whether they run at the same moment or not, and however long one of them was alone."""
    box = sandbox(company=Company(seed=7, posts=30, requests=30, days=60, activity=0.3))
    url, limits = f"sqlite:///{tmp_path / 'state.sqlite'}", Limits(1000, 50, 30)
    first, second = (Rig(box, url, limits=limits, name=name) for name in ("first", "second"))
    for _ in range(alone * 24):
        box.advance(HOUR)
        first.sync()
    asked = Counter[str]()
    for _ in range(10 * 24):
        box.advance(HOUR - apart)
        asked["first"] += first.sync().report.requests_spent
        box.advance(apart)
        asked["second"] += second.sync().report.requests_spent
    assert asked["second"] > asked.total() / 4
    assert asked["first"] > asked.total() / 4
    for name in asked:
        states = progress.load_readonly(first.database, name).streams
        assert all(states[stream].complete for stream in ("posts", "feature_requests", "nps")), name
    first.close()
    second.close()


def test_a_run_that_may_spend_little_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """Without a monthly limit everything is asked at each run, as far as --max-requests lets it."""
    box = sandbox(company=Company(seed=2, posts=60, requests=20, days=100, activity=0.1, quiet=True))
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}")
    rig.sync()
    old, young = box.world.posts_shown()[0].id, box.world.posts_shown()[-1].id
    rows = {box.world.add("comments", post, userId="u-1") for post in (old, young)}
    for _ in range(6):
        box.advance(HOUR)
        assert rig.sync(most_requests=4).report.requests_spent == 4
    assert rows <= {each.message["properties"].get("comment_id") for each in box.segment.landed}
    rig.close()


def test_what_was_looked_at_in_the_future_is_looked_at_again(tmp_path: Path) -> None:
    box = sandbox(company=Company(seed=3, posts=25, requests=5, days=60, activity=0.2, quiet=True))
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(20_000, 0, 30))
    rig.sync()
    far = box.now() + timedelta(days=20_000)
    state = progress.load_readonly(rig.database, "default")
    for parent in state.parents["posts"].values():
        parent.checked_at = far
    progress.doubt_future(state, box.now())
    assert {parent.checked_at for parent in state.parents["posts"].values()} == {None}
    seen = {parent.known_at for parent in state.parents["posts"].values()}
    assert None not in seen
    rig.close()


def test_what_waits_under_a_connections_former_name_goes_out_under_the_new_one(database_url: str) -> None:
    """It was `default` until it got a file and a name of its own: its rows have the same messageIds."""
    box = sandbox(company=Company(seed=4, posts=12, requests=5, days=20, quiet=True))
    before, after = (Rig(box, database_url, name=name) for name in ("default", "acme"))
    made = before.sync(deliver=False).report.events.total()
    # One of them was refused, and a batch was on its way when the run died.
    lease = leases.acquire(before.database, "default", this_process(), box.now())
    first, *_ = (mine := Outbox(before.database, lease, "dest")).claim(5, box.now())
    mine.mark_dead(first, "no", box.now(), box.now())
    outcome = after.sync()
    assert (outcome.exit, outcome.report.sent, outcome.report.waiting) == (0, made - 1, 0)
    assert outbox.sizes(after.database, "acme") == {"dead": 1}
    assert not outbox.sizes(after.database, "default")
    before.close()
    after.close()


def test_a_run_that_began_with_a_former_destination_spends_nothing(database_url: str) -> None:
    """Before it had its lease, another process had stored another destination."""
    box, limits = sandbox(company=Company(seed=4, posts=12, days=20, quiet=True)), Limits(1000, 50, 30)
    rig = Rig(box, database_url, limits=limits)
    rig.sync()
    context, spent = rig.context(), rig.context().ledger.balance(box.now()).used
    connections.set_destination(rig.database, rig.name, "new")
    with pytest.raises(Busy, match="changed the account or destination"):
        Run(context).go()
    assert rig.context().ledger.balance(box.now()).used == spent
    # Its lease was given back.
    assert rig.sync().exit == 0
    rig.close()


@pytest.mark.slow
def test_connections_that_make_the_same_messages_do_not_wait_in_a_circle(postgres_url: str) -> None:
    """One account, one source, and the same streams: each takes over what the others made, side by side."""
    box = sandbox(company=Company(seed=2, posts=40, requests=20, days=60, activity=0.6, quiet=True))
    rigs = [Rig(box, postgres_url, name=name) for name in ("first", "second", "third")]
    for rig in rigs:
        rig.context()
    with ThreadPoolExecutor(len(rigs)) as threads:
        outcomes = list(threads.map(Rig.sync, rigs))
    assert [(outcome.exit, outcome.error) for outcome in outcomes] == [(0, None)] * len(rigs)
    rigs[0].check()
    for rig in rigs:
        rig.close()

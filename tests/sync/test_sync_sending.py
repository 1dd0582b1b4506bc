"""What share of a stream's rows is sent, and what follows from it for what is asked."""

from pathlib import Path

import pytest

from connector.domain.state import StreamState
from connector.sandbox import Company
from connector.segment.shaping import Privacy
from connector.state import progress
from connector.sync.planning import estimates
from tests.harness import Rig, sandbox

NEW = StreamState(1, "reactions")
USER = {"userId": "u1"}


def counted(sent: int, held: int, state: StreamState = NEW, times: int = 1) -> StreamState:
    for _ in range(times):
        state = estimates.with_sent(state, sent, held)
    return state


@pytest.mark.parametrize(
    ("state", "share"),
    [
        (NEW, 1.0),
        (counted(5, 0), 1.0),
        (counted(0, 10), 0.5),
        (counted(3, 7, times=200), 0.36),
        (counted(0, 1, times=2_000), 0.09),
    ],
)
def test_what_is_not_known_better_is_sent(state: StreamState, share: float) -> None:
    assert estimates.sent_share(state) == pytest.approx(share, abs=0.02)


def test_the_latest_rows_count_most() -> None:
    """A setting was changed, or users log in from now on."""
    assert estimates.sent_share(counted(1, 0, counted(0, 1, times=2_000), times=300)) > 0.9


def test_a_page_without_new_rows_changes_nothing() -> None:
    state = counted(3, 7)
    assert counted(0, 0, state) == state


def test_a_stream_that_is_off_teaches_nothing(tmp_path: Path) -> None:
    """Posts are read for the sake of their comments; where they are listed later, all of them are sent."""
    box = sandbox(company=Company.empty())
    for _ in range(9):
        box.world.add("comments", box.world.add("posts"), **USER)
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", streams=frozenset({"comments"}))
    rig.sync()
    assert estimates.sent_share(progress.load_readonly(rig.database, "default").streams["posts"]) == 1.0
    rig.close()


@pytest.mark.parametrize(
    ("privacy", "share"), [(Privacy(anonymous="hold"), 0.36), (Privacy(anonymous="shared"), 1.0)]
)
def test_a_sync_learns_what_is_excluded(tmp_path: Path, privacy: Privacy, share: float) -> None:
    box = sandbox(company=Company.empty())
    post = box.world.add("posts")
    for number in range(40):
        box.world.add("reactions", post, userId="" if number % 5 else f"u{number}")
    for _ in range(3):
        box.world.add("comments", post, **USER)
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", privacy=privacy)
    rig.sync()
    streams = progress.load_readonly(rig.database, "default").streams
    assert estimates.sent_share(streams["reactions"]) == pytest.approx(share, abs=0.03)
    assert estimates.sent_share(streams["comments"]) == estimates.sent_share(streams["posts"]) == 1.0
    # What is known already is not judged once more.
    box.world.add("reactions", post, **USER)
    rig.sync()
    after = progress.load_readonly(rig.database, "default").streams["reactions"]
    assert after.verdict_count == pytest.approx(streams["reactions"].verdict_count, abs=1)
    rig.close()

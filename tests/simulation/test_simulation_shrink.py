"""A life that goes wrong is cut to what makes it go wrong."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.choices import Choices
from tests.simulation.crashes import Disk
from tests.simulation.life import live
from tests.simulation.mutants import simulated
from tests.simulation.mutations import MUTANTS
from tests.simulation.plan import plan
from tests.simulation.shrink import Shrinker, simpler
from tests.simulation.stories import STORIES
from tests.simulation.story import Story

ROOT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
BUSY = Story(
    "a run is killed",
    {"company.nps_per_day": 2.0, "company.days": 5, "rhythm": 12 * HOUR, "troubles.crashes": 0.2},
    {
        "sync 1": 7 * HOUR,
        "sync 1, run 1, /nps 1": "busy",
        "sync 1, run 1, /nps 2 takes": 0.4,
        "happening 1 before sync 4": ("crowd", "nps", None, 33, 1),
        "sync 4": 25 * HOUR,
        "sync 4, run 1 dies": ("after commit", 5),
        "sync 4, run 1 is started again": (20, "default"),
        "sync 6": 61 * HOUR,
    },
)


@pytest.mark.parametrize("name", STORIES)
def test_each_story_goes_well(disk: Disk, name: str) -> None:
    assert live(STORIES[name], disk).wrong is None


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_each_story_goes_wrong_with_what_was_broken(name: str) -> None:
    printed = simulated(BY_NAME[name], "--story", name)
    assert f"wrong: {STORIES[name].wrong}\n" in printed


@pytest.mark.slow
def test_what_makes_no_difference_is_left_out_in_the_same_way_each_time(disk: Disk) -> None:
    """Here it counts as wrong that a run was killed."""

    def lived(story: Story) -> Story | None:
        result = live(story, disk)
        assert result.wrong is None
        return story if result.crashes else None

    shrinkers = [Shrinker(BUSY, lived) for _ in range(2)]
    shrunk, again = [shrinker.shrink() for shrinker in shrinkers]
    assert shrunk == again
    assert shrunk.settings == {}
    assert shrunk.events == {"sync 4": timedelta(0), "sync 4, run 1 dies": ("after commit", 1)}
    assert shrinkers[0].lives == shrinkers[1].lives


def test_another_promise_does_not_count() -> None:
    other = replace(BUSY, wrong="3 doubles, 2 reported as possible", events={})
    shrinker = Shrinker(BUSY, lambda story: replace(other, settings=story.settings))
    assert shrinker.shrink() == BUSY


@pytest.mark.parametrize(
    ("wrong", "same"),
    [
        ("lost in quiet: default: nps 69a381 of 26 02:20:20 (1 in all)", "lost after an audit: ..."),
        ("3 doubles, 2 reported as possible", "17 doubles, 0 reported as possible"),
        ("model: default nps 69a went from None to 7", "model: default comments 12 went from None to 8"),
        ("sync 1, run 2 wrote ['child'] though", "sync 12, run 1 wrote ['row', 'child'] though"),
    ],
)
def test_the_same_promise(wrong: str, same: str) -> None:
    assert Story(wrong).kind == Story(same).kind


def test_a_story_is_what_a_test_file_holds() -> None:
    names: dict[str, Any] = {"Story": Story, "timedelta": timedelta}
    for story in (BUSY, *STORIES.values()):
        assert eval(str(story), names) == story  # noqa: S307 - its own words


@pytest.mark.parametrize("seed", range(30))
def test_every_plan_can_be_told(seed: int) -> None:
    assert Story.of(plan(seed), Choices(), "nothing").plan == plan(seed)


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (9, [1, 4, 8]),
        (2, [1]),
        (1, []),
        (True, []),
        ("words", []),
        (0.27, []),
        (1.44, [1.0, 1.4]),
        (timedelta(minutes=90), [timedelta(0), timedelta(minutes=45), HOUR]),
        (("crowd", "nps", None, 3, 1), [("crowd", "nps", None, 1, 1), ("crowd", "nps", None, 2, 1)]),
    ],
)
def test_simpler_values(value: Any, values: list[Any]) -> None:
    assert list(simpler(value)) == values


@pytest.mark.slow
def test_a_life_in_which_all_is_well_is_not_shrunk() -> None:
    words = [sys.executable, "-m", "tests.simulation", "--seed", "3", "--shrink"]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "All is well in the life of seed 3: there is nothing to shrink.\n"

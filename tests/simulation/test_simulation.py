"""Nothing lost, nothing doubled, over lives that one number each decides."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.simulation.census import Census
from tests.simulation.choices import Choices
from tests.simulation.constants import Drawn, drawn
from tests.simulation.crashes import LOG, Disk, PostgresDisk
from tests.simulation.life import Life, Result, live
from tests.simulation.plan import Storage, plan
from tests.simulation.sometimes import ON_SERVER, ON_SQLITE, STATES
from tests.simulation.storage import SECTOR, torn
from tests.simulation.story import Story
from tests.simulation.trace import Trace

ROOT = Path(__file__).parents[2]
AT_ONCE = 20
# Seeds that once found something, and what. A seed means another life as soon as the simulation changes, so
# that what it found has a test of its own besides, in test_simulation_found.py.
REGRESSIONS = (
    (22, "a dead letter that may have arrived, tried again after a day: its double was not reported"),
    (7, "a message without an answer, then refused in the same run: its double was not reported"),
    (628, "a post alone behind a short page of a list without order was never seen"),
    (955, "a response that came late was hidden from the count by one that went"),
    (1387, "a clock that was set back brought an hour's Beamer Sync Completed twice"),
    (2906, "a row that came while a reading was cut short, on a page that had been read"),
    (62, "a 400 behind a full page of a window was taken for the end of its list"),
    (181, "rows announced while a part of the list could not be read were forgotten"),
)


def well(result: Result) -> Result:
    assert not result.wrong, f"seed {result.seed}: {result.wrong}"
    assert result.syncs >= 30
    return result


# `make simulate` goes through a thousand.
MORE = (0, 20, 40, 60, 80, 120, 140, 160, 180)


@pytest.mark.parametrize("seed", range(10))
def test_a_few_lives_go_well(disk: Disk, seed: int) -> None:
    result = well(live(seed, disk))
    assert {*result.census.states} <= {*STATES, *ON_SQLITE}
    assert len(result.census.states) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("first", [100, *(pytest.param(first, marks=pytest.mark.long) for first in MORE)])
def test_many_lives_go_well(disk: Disk, first: int) -> None:
    lives = [well(live(seed, disk)) for seed in range(first, first + AT_ONCE)]
    assert sum(bool(each.crashes and each.overlaps) for each in lives) >= AT_ONCE / 4


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "found"), REGRESSIONS)
def test_what_once_found_something(disk: Disk, seed: int, found: str) -> None:
    well(live(seed, disk))


@pytest.mark.parametrize("seed", [3, 19])
def test_a_seed_decides_everything(disk: Disk, seed: int) -> None:
    told: list[list[str]] = [[], []]
    digests = {live(seed, disk, lines.append).digest for lines in told}
    assert told[0] == told[1]
    assert len(digests) == 1


@pytest.mark.parametrize("seed", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_what_was_chosen_decides_everything(disk: Disk, seed: int) -> None:
    told: list[list[str]] = [[], []]
    random.seed(f"{seed}/jitter")
    life = Life(plan(seed), Choices(), disk, Trace(told[0].append))
    life.go()
    story = Story.of(life.plan, life.choices, "nothing")
    assert story.plan == life.plan
    assert len(story.events) > 100
    live(story, disk, told[1].append)
    assert told[1][: len(told[0])] == told[0]


@pytest.mark.slow
def test_a_seed_decides_everything_in_any_process() -> None:
    lives = [_told_in_a_process(hash_seed) for hash_seed in ("1", "4711")]
    assert lives[0] == lives[1]
    assert lives[0].count("\n") > 300


def _told_in_a_process(hash_seed: str) -> str:
    words = [sys.executable, "-m", "tests.simulation", "--seed", "12"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "COLUMNS": "200"}
    return subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_third_of_the_lives_have_other_constants() -> None:
    usual = Drawn()
    lives = [life for seed in range(600) if (life := drawn(random.Random(f"{seed}/constants"))).absurd]
    assert 150 < len(lives) < 250
    for thing in (usual, usual.constants):
        for name in thing.__dataclass_fields__:
            values = {getattr(life if thing is usual else life.constants, name) for life in lives}
            assert len(values) > 2, name


@pytest.mark.slow
def test_lives_that_must_come_to_every_state_fail_without_one() -> None:
    """One life cannot come to all of them."""
    words = [sys.executable, "-m", "tests.simulation", "--seeds", "1", "--jobs", "1", "--every-state"]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Never reached: " in done.stdout
    assert "0 wrong" in " ".join(done.stdout.split())


def test_what_was_never_reached() -> None:
    census = Census(states=Counter({"a counter falls": 3}))
    census.add(Census(states=Counter({"a hint waits": 1})))
    assert census.unreached(STATES) == [each for each in STATES if each not in census.states]
    assert len(STATES) == len({*STATES}) >= 40
    assert {*STATES}.isdisjoint({*ON_SQLITE, *ON_SERVER})


def test_a_quarter_of_the_lives_have_storage_that_fails() -> None:
    lives = [life for seed in range(400) if (life := plan(seed).storage) != Storage()]
    assert 70 < len(lives) < 130
    assert 30 < sum(life.backup is not None for life in lives) < 70
    assert {life.enters_used for life in lives} == {True, False}


def test_what_a_disk_has_of_a_commit_under_way() -> None:
    """Each sector is as it was or as it was to be, only in the log, and sometimes all or none of them."""
    old, new = b"o" * 3 * SECTOR, b"n" * 7 * SECTOR
    before, after = {"": b"file", LOG: old}, {"": b"checkpointed", LOG: new}
    sectors = Counter[int]()
    for number in range(200):
        disk = torn(before, after, Random(number))
        assert (disk[""], len(disk[LOG])) == (b"file", len(new))
        parts = [disk[LOG][at : at + SECTOR] for at in range(0, len(new), SECTOR)]
        assert all(len({*part}) == 1 and part[:1] in (b"o", b"n", b"\0") for part in parts)
        sectors[sum(part[:1] == b"n" for part in parts)] += 1
    assert {0, 7} < sectors.keys()
    assert len(sectors) > 4


@pytest.fixture(scope="module")
def postgres_disk(postgres_server: str | None) -> Iterator[PostgresDisk]:
    if postgres_server is None:
        assert not os.environ.get("REQUIRE_POSTGRES")
        pytest.skip("no PostgreSQL server answers")
    disk = PostgresDisk(postgres_server, f"beamer_simulation_test_{os.getpid()}")
    yield disk
    disk.drop()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 44))
def test_lives_on_postgresql_go_well(postgres_disk: PostgresDisk, seed: int) -> None:
    well(live(seed, postgres_disk))

"""`status` on one screen: wide, narrow, without colours, without a terminal, and on a database of years."""

import re
import resource
from datetime import UTC, datetime, timedelta

import pytest

from connector.state.tables import runs
from tests.benchmarks.million import fill, make_runs
from tests.cli.process import Machine
from tests.cli.terminal import Terminal

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

SCREEN = 24
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FINE = "█░│"


@pytest.fixture
def synced(machine: Machine) -> Machine:
    machine.extra |= {"BEAMER_PLAN": "free"}
    assert machine.run("sync").code == 0
    assert machine.run("sync", "--max-requests", "0").code == 0
    return machine


def shown(machine: Machine, *words: str, columns: int = 80) -> list[str]:
    with Terminal(machine, words or ("status",), columns) as terminal:
        assert terminal.end() == 0, terminal.shown
        return terminal.shown.splitlines()


def test_one_screen_of_eighty_columns_has_it_all(synced: Machine) -> None:
    lines = shown(synced)
    plain = [COLOUR.sub("", line) for line in lines]
    assert len(plain) <= SCREEN, plain
    assert max(map(len, plain)) <= 80
    text = "\n".join(plain)
    assert plain[0] == "Connection 'default': healthy"
    for words in (
        *(
            "newest row delivered:",
            "quota [",
            "even pace",
            "Available now: ",
            "runs  ",
            "done",
            "outbox: 0 messages waiting",
        ),
        *("excluded: ", "stream", "checked", "events"),
    ):
        assert words in text, (words, text)
    assert lines != plain, "a terminal that can has colours"
    assert any(sign in text for sign in FINE)


def test_no_colours_where_none_are_wanted(synced: Machine) -> None:
    # At this level a sync says each request in the log.
    synced.extra["LOG_LEVEL"] = "debug"
    for words in (("status",), ("check", "--offline"), ("sync",)):
        assert COLOUR.search("\n".join(shown(synced, *words))), words
    synced.extra["NO_COLOR"] = "1"
    for words in (("status",), ("check", "--offline"), ("sync",), ("runs",), ("--help",)):
        # Bold is no colour.
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", "\n".join(shown(synced, *words))), words


@pytest.mark.parametrize("extra", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}])
def test_plain_signs_where_the_terminal_knows_no_others(synced: Machine, extra: dict[str, str]) -> None:
    synced.extra |= extra
    text = "\n".join(shown(synced))
    assert re.search(r"quota \[[#.|]+\]", COLOUR.sub("", text))
    assert text.isascii()


# The library that prints the help takes no terminal for narrower than 52 columns.
NARROW = [(("status",), 40), (("check", "--offline"), 40), (("--help",), 52), (("backfill", "--help"), 52)]


@pytest.mark.parametrize(("words", "columns"), NARROW)
def test_nothing_is_wider_than_a_narrow_terminal(
    synced: Machine, words: tuple[str, ...], columns: int
) -> None:
    lines = [COLOUR.sub("", line) for line in shown(synced, *words, columns=columns)]
    assert max(map(len, lines)) <= columns, [line for line in lines if len(line) > columns]
    if words == ("status",):
        assert any(line.startswith("  comments: checked") for line in lines)


def test_without_a_terminal_each_thing_is_one_line(synced: Machine) -> None:
    out = synced.run("status").out
    assert "\x1b" not in out
    assert re.search(r"^  quota \[[#.|]{40}\]$", out, re.MULTILINE)
    assert re.search(r"^  runs  \.\.?s?$", out, re.MULTILINE)


def test_the_text_and_the_json_agree(synced: Machine) -> None:
    found = synced.run("status", "--output", "json").connection
    text = synced.run("status").out
    usable, used = found["requests_usable"], found["requests_used"]
    assert usable == 950
    assert f"{used} of {usable} requests used" in text
    assert 0 <= found["requests_even"] < 1
    assert found["newest"][:10] in text
    assert found["newest_stream"] in text
    assert [run["outcome"] for run in found["runs"]] == ["stopped", "done"]
    assert found["health"] == "healthy"
    assert found["last_success"] == found["runs"][0]["finished_at"]
    for stream in found["streams"]:
        assert stream["checked_at"] or stream["stream"] == "nps"
        if stream["counts"].get("events"):
            assert stream["newest_delay_seconds"] >= 0
    assert found["at_work"] == found["backfills"] == found["waiting"] == []


def test_more_spent_than_the_month_allows_is_set_against_what_it_allows(synced: Machine) -> None:
    assert synced.run("quota", "set-used", "1900").code == 0
    found = synced.run("status", "--output", "json").connection
    assert (found["requests_used"], found["requests_left"], found["requests_usable"]) == (1900, 0, 950)
    assert "1,900 of 950 requests used (200%)" in synced.run("status").out


def test_no_run_for_long_is_late(synced: Machine) -> None:
    database = synced.database()
    with database.write() as db:
        ago = datetime.now(UTC) - timedelta(hours=30)
        db.execute(runs.update().values(started_at=ago, finished_at=ago))
    database.close()
    found = synced.run("status", "--output", "json").connection
    assert (found["health"], "No run has succeeded since" in found["why"]) == ("late", True)
    assert synced.run("status", "--fail").code == 69


def test_a_store_of_years_is_looked_at_as_quickly_as_a_new_one(synced: Machine) -> None:
    """`make bench-million` times it; this only tells what reads all rows from what does not."""
    words = ("status",), ("explain", a_row_of(synced))
    small = [seconds(synced, *each) for each in words]
    database = synced.database()
    fill(database, 1_000_000)
    make_runs(database, 10_000)
    database.close()
    large = [seconds(synced, *each) for each in words]
    assert all(after < 1.5 * before for before, after in zip(small, large, strict=True)), (small, large)


def a_row_of(machine: Machine) -> str:
    return machine.sandbox.world.rows("nps")[0].id


def seconds(machine: Machine, *words: str) -> float:
    """Processor time of a command, the least of some: other programs keep this machine busy, too."""
    taken = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = machine.run(*words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.code == 0, ended.err
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)

"""Small pictures in text."""

from datetime import UTC, datetime, timedelta

import pytest

from connector.reporting.rendering import FINE, PLAIN, bar, span, strip
from connector.state.runs import PastRun

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

BARS = [
    (0.0, None, "[..........]"),
    (0.0, 0.0, "[|.........]"),
    (0.5, None, "[#####.....]"),
    (0.5, 0.5, "[#####|....]"),
    (0.5, 0.2, "[##|##.....]"),
    (1.0, 1.0, "[#########|]"),
    (1.7, 0.5, "[#####|####]"),
    # Little is not nothing, and nearly all is not all.
    (0.001, None, "[#.........]"),
    (0.999, None, "[#########.]"),
    (-1.0, -1.0, "[|.........]"),
]


@pytest.mark.parametrize(("share", "line", "shown"), BARS)
def test_a_bar(share: float, line: float | None, shown: str) -> None:
    assert bar(share, line, 10, PLAIN) == shown
    assert len(bar(share, line, 10, FINE)) == 12


def ran(number: int, outcome: str | None, command: str = "sync") -> PastRun:
    return PastRun(number, command, NOW, NOW if outcome else None, outcome, 0)


def test_a_strip_reads_from_the_oldest_to_the_newest() -> None:
    newest_first = [ran(5, None), ran(4, "failed"), ran(3, "incomplete"), ran(2, "stopped"), ran(1, "done")]
    messages, legend = strip(newest_first, ["sync"])
    assert messages == ".si!>"
    assert legend == ". done, s stopped early, i incomplete, ! failed, > under way"
    assert strip([ran(1, "interrupted")], []) == ("^", "^ interrupted by a signal")


def test_only_what_is_being_done_is_under_way() -> None:
    killed = [ran(3, None), ran(2, None), ran(1, "done")]
    assert strip(killed, [])[0] == ".xx"
    assert strip(killed, ["sync"])[0] == ".x>"
    assert strip(killed, ["backfill"])[0] == ".xx"
    assert strip([ran(2, None, "backfill"), ran(1, None)], ["backfill"])[0] == "x>"
    assert strip([ran(1, None, "audit")], ["sync"])[0] == ">"


def test_an_outcome_that_nobody_knows_is_no_good_one() -> None:
    assert strip([ran(1, "exploded")], [])[0] == "!"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *((-5.0, "0 s"), (59.0, "59 s"), (600.0, "10 min"), (7_199.0, "120 min"), (7_200.0, "2 h")),
        *((90_000.0, "25 h"), (3 * 86_400.0, "3 d"), (86_400.0 * 4_000, "4,000 d")),
    ],
)
def test_how_long(seconds: float, shown: str) -> None:
    assert span(seconds) == span(timedelta(seconds=seconds)) == shown

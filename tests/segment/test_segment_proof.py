"""What was sent, compared with what Segment counts: by event and hour."""

from datetime import UTC, datetime, timedelta

import pytest

from connector.domain.proof import Counts, EventHour, Sent, compare, lost, resend_command

T = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVENT = "Post Commented"


def compared(
    sent: dict[int, int | tuple[int, ...]], counts: dict[int, int | tuple[int, int, int]], now: float = 60
) -> dict[int, EventHour]:
    """By hour: messages, or also unsure and resent ones; received, or received, filtered and failed."""
    ours = {}
    for hour, each in sent.items():
        messages, unsure, resent = (*(each if isinstance(each, tuple) else (each,)), 0, 0)[:3]
        ours[EVENT, T + hour * HOUR] = Sent(messages, unsure, resent)
    theirs = {
        (EVENT, T + hour * HOUR): Counts(*(each if isinstance(each, tuple) else (each,)))
        for hour, each in counts.items()
    }
    return {int((row.hour - T) / HOUR): row for row in compare(ours, theirs, T + now * HOUR)}


@pytest.mark.parametrize(
    ("sent", "counts", "missing", "more"),
    [
        # All there.
        ({0: 5, 1: 3}, {0: 5, 1: 3}, {}, {}),
        ({}, {}, {}, {}),
        # Some or all of an hour are missing.
        ({0: 5, 1: 3}, {0: 3, 1: 3}, {0: 2}, {}),
        ({0: 5, 1: 3}, {1: 3}, {0: 5}, {}),
        # What is filtered or failed has arrived.
        ({0: 5}, {0: (2, 2, 1)}, {}, {}),
        # On the hour, clocks differ: an hour covers the one before and the one after.
        ({0: 5, 1: 3}, {0: 4, 1: 4}, {}, {}),
        ({0: 5, 1: 3}, {0: 6, 1: 2}, {}, {}),
        ({1: 3}, {2: 3}, {}, {}),
        # But no hour further away.
        ({0: 5}, {2: 5}, {0: 5}, {2: 5}),
        # Another sender.
        ({0: 5}, {0: 9}, {}, {0: 4}),
        ({5: 1}, {0: 9, 5: 1}, {}, {0: 9}),
        # A resend of messages that Segment has: it counts none of them.
        ({0: 5, 9: (5, 0, 5)}, {0: 5}, {}, {}),
        # It had three of them: the resend brings the other two.
        ({0: 5, 9: (5, 0, 5)}, {0: 3, 9: 2}, {}, {}),
        # It brings one of two.
        ({0: 5, 9: (5, 0, 5)}, {0: 3, 9: 1}, {0: 1}, {}),
        # Segment counts repeated messages, too.
        ({0: 5, 9: (5, 0, 5)}, {0: 5, 9: 5}, {}, {}),
        # Sent at 0 without an answer, and again at 9 with one: it had arrived at first.
        ({0: 4, 9: (1, 1)}, {0: 5}, {}, {}),
        # It hides nothing that is missing beside it.
        ({0: 4, 1: 3, 9: (1, 1)}, {0: 5, 1: 2}, {1: 1}, {}),
        # It never arrived.
        ({0: 4, 9: (1, 1)}, {0: 4}, {9: 1}, {}),
        # It had not arrived at first.
        ({0: 4, 9: (1, 1)}, {0: 4, 9: 1}, {}, {}),
        # New messages beside a resend are expected.
        ({0: 5, 9: (7, 0, 5)}, {0: 5, 9: 1}, {9: 1}, {}),
    ],
)
def test_differences(
    sent: dict[int, int | tuple[int, ...]],
    counts: dict[int, int | tuple[int, int, int]],
    missing: dict[int, int],
    more: dict[int, int],
) -> None:
    rows = compared(sent, counts)
    assert {hour: row.missing for hour, row in rows.items() if row.missing} == missing
    assert {hour: row.more for hour, row in rows.items() if row.more} == more
    assert all(row.settled for row in rows.values())


@pytest.mark.parametrize(
    ("counts", "now", "settled"),
    [
        # The hour ends at 1. A later hour has counts: two hours after its end its own are complete.
        ({2: 3}, 2.9, False),
        ({2: 3}, 3.0, True),
        # Nothing is counted behind it: all counts may be late, for a day.
        ({}, 24.9, False),
        ({0: 1}, 24.9, False),
        ({}, 25.0, True),
    ],
)
def test_counts_come_late(counts: dict[int, int | tuple[int, int, int]], now: float, settled: bool) -> None:
    row = compared({0: 5}, counts, now)[0]
    assert row.settled is settled
    assert row.missing == 5 - (counts.get(0) == 1)
    assert row.lost == (row.missing if settled else 0)


def test_an_open_hour_is_not_compared() -> None:
    assert compared({0: 5}, {}, 0.99) == {}


def test_events_do_not_cover_each_other() -> None:
    ours = {("One", T): Sent(5), ("Two", T): Sent(5)}
    theirs = {("One", T): Counts(10)}
    rows = {row.event: row for row in compare(ours, theirs, T + 9 * DAY)}
    assert (rows["One"].more, rows["Two"].missing) == (5, 5)


def test_what_is_lost_is_named_with_the_dates_of_its_rows() -> None:
    ours = {
        (EVENT, T): Sent(5, 0, 0, T - 400 * DAY, T - 390 * DAY),
        (EVENT, T + 3 * HOUR): Sent(2, 0, 0, T - 395 * DAY, T - 380 * DAY + timedelta(milliseconds=5)),
        (EVENT, T + 6 * HOUR): Sent(2, 0, 0, T, T),
    }
    theirs = {(EVENT, T + 6 * HOUR): Counts(2)}
    [found] = lost(compare(ours, theirs, T + 9 * DAY))
    assert (found.messages, found.hours, found.since) == (7, 2, T)
    assert resend_command("acme", "comments", found) == (
        "beamer-segment backfill --connection acme --since 2025-01-25T12:00:00 --until 2025-02-14T12:00:01 "
        "--stream comments --resend --again"
    )

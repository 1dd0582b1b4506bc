"""Real connector processes against a Beamer and a Segment that share no code and no author with them."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from tests.independent.account import EDGE, PRIVATE, Account, add_rows, make_account
from tests.independent.oracle import SHARED, Event, Key, events, read
from tests.independent.server import (
    BEAMER_KEY,
    DOCUMENTED,
    WRITE_KEY,
    Asked,
    Beamer,
    Habits,
    Segment,
    serving,
    shape_of,
)

ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    """What one connector process did."""

    asked: list[Asked]
    messages: list[dict[str, Any]]

    def sent(self) -> dict[Key, Event]:
        """The events by row, after a check that no row and no messageId came twice."""
        found = read(self.messages)
        assert not [key for key, times in Counter(key for key, _ in found).items() if times > 1]
        return dict(found)


@dataclass
class World:
    """An account, the two servers, and a connector with a database of its own."""

    account: Account
    beamer: Beamer
    segment: Segment
    environment: dict[str, str]

    def sync(self) -> Run:
        asked, received = len(self.beamer.log), len(self.segment.received)
        command = [sys.executable, "-m", "connector", "sync", "--output", "json"]
        ran = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        assert "Warning" not in ran.stderr
        assert json.loads(ran.stdout.splitlines()[-1])["exit"] == 0
        return Run(self.beamer.log[asked:], self.segment.received[received:])

    def expected(self) -> dict[Key, Event]:
        return events(self.account, self.account.now - EDGE)

    def views(self) -> list[int]:
        return [post.views for post in self.account.posts]

    def floor(self) -> int:
        """The requests of a run that finds nothing."""
        return ceil(len(self.account.posts) / 10) + ceil(len(self.account.requests) / 10) + 1


Build = Callable[..., World]


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Build]:
    """Builds a world with so many posts and requests after the news, and an API of such habits."""
    with ExitStack() as stack:

        def build(posts: int, requests: int, habits: Habits | None = None, seed: int = 7) -> World:
            now = datetime.now(UTC)
            account = make_account(seed, posts=posts - 2, requests=requests - 2, now=now)
            beamer, segment = Beamer(account, habits), Segment()
            beamer_url, segment_url = stack.enter_context(serving(beamer, segment))
            environment = os.environ | {
                "BEAMER_API_KEY": BEAMER_KEY,
                "BEAMER_BASE_URL": beamer_url,
                "BEAMER_PLAN": "pro",
                "SEGMENT_WRITE_KEY": WRITE_KEY,
                "SEGMENT_HOST": segment_url,
                "DATABASE_URL": database_url,
                "PYTHONWARNINGS": "error",
            }
            return World(account, beamer, segment, environment)

        yield build


def go_through(world: World, more: int = 0) -> None:
    """All history, then news, then nothing but a status shown before: the promises hold at each step.

    The last run makes as many requests as one that finds nothing, and at most so many `more`.
    """
    views = world.views()
    first = world.sync()
    assert_same(first.sent(), world.expected())
    assert world.views() == views

    known = world.expected()
    changing = world.account.requests[-1]
    add_rows(world.account, datetime.now(UTC))
    views = world.views()
    second = world.sync()
    news = {key: event for key, event in world.expected().items() if key not in known}
    assert {name for name, _ in news} == {name for name, _ in known}, "the news leave a kind of event out"
    assert_same(second.sent(), news)

    third = world.sync()
    sent = third.sent()
    # A status is believed when it was shown twice.
    assert_status_change(sent.pop(("Feature Request Status Changed", changing.id)))
    assert sent == {}
    shown = "\n".join(f"{asked.path} {asked.query}" for asked in third.asked)
    assert world.floor() <= len(third.asked) <= world.floor() + more, shown

    assert world.views() == views
    assert_good_manners(world)
    assert_messages(world)


def assert_same(sent: dict[Key, Event], expected: dict[Key, Event]) -> None:
    assert sorted(expected.keys() - sent.keys()) == [], "lost"
    assert sorted(sent.keys() - expected.keys()) == [], "not to be sent"
    assert sent == expected


def assert_status_change(event: Event) -> None:
    """Nobody's event, dated when it was seen."""
    assert event.user == SHARED
    assert event.properties["previous_status"] == "under_review"
    assert event.properties["status"] == "planned"
    assert datetime.now(UTC) - event.timestamp < timedelta(minutes=1)


def assert_good_manners(world: World) -> None:
    """Only documented lists are asked, in documented ways."""
    assert {asked.method for asked in world.beamer.log} == {"GET"}
    for asked in world.beamer.log:
        shape = shape_of(asked.path)
        assert not shape.endswith("*"), f"{asked.path} was read by id"
        assert asked.query.keys() <= DOCUMENTED[shape], asked


def assert_messages(world: World) -> None:
    """What holds for every message, whatever its row."""
    received = world.segment.received
    assert world.segment.refusals == []
    assert world.segment.messages() == received
    for message in received:
        assert message["type"] == "track"
        assert message["messageId"].startswith("bmr1-")
        assert len(message["messageId"]) <= 100
        assert message["context"]["integration"]["name"] == "beamer-segment"
        assert "traits" not in message["context"]
        assert (message.get("anonymousId") == SHARED) == (not message.get("userId"))
        text = json.dumps(message)
        assert PRIVATE not in text
        assert "person" not in text  # the addresses of users


# --- an API as most people would read the reference -------------------------------------------------------


@pytest.mark.parametrize(
    ("posts", "requests"),
    [
        pytest.param(60, 30, id="full pages"),
        pytest.param(57, 23, id="short last pages", marks=pytest.mark.slow),
        pytest.param(10, 10, id="one full page", marks=pytest.mark.slow),
    ],
)
def test_everything_new_is_sent_once_and_nothing_else(world: Build, posts: int, requests: int) -> None:
    go_through(world(posts, requests))


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.slow
@ON_SQLITE
def test_news_go_over_full_pages(world: Build) -> None:
    go_through(world(62, 32, seed=8))


# --- where the reference leaves a choice: by the API's habits, whatever the database ------------------------


@pytest.mark.slow
@ON_SQLITE
def test_oldest_first(world: Build) -> None:
    """Behind each full page the news may wait, and behind the short one of the scores, too."""
    go_through(world(60, 30, Habits(order="oldest")), more=6 + 3 + 1)


@pytest.mark.slow
@ON_SQLITE
def test_dates_are_exclusive(world: Build) -> None:
    go_through(world(57, 23, Habits(bounds="exclusive")))


@pytest.mark.slow
@ON_SQLITE
def test_pages_are_counted_from_one(world: Build) -> None:
    go_through(world(57, 23, Habits(first_page=1)))


@pytest.mark.slow
@ON_SQLITE
def test_pinned_posts_leave_the_order_in_doubt(world: Build) -> None:
    """Pinned posts may come first anywhere, so pages full of them prove no order: one more request each."""
    built = world(30, 20)
    for post in built.account.posts:
        post.body["pinned"] = "true"
    go_through(built, more=3 + 2)

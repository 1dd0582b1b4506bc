"""How late rows will be: figures without a store, and against the planner living through days."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from time import process_time

import pytest

from connector.beamer.catalogue import CATALOGUE, POSTS, Stream
from connector.segment.shape import Naming
from connector.state.progress import ChildState, ParentState, Progress, StreamState
from connector.sync.activity import MONTH, Survey
from connector.sync.agenda import Agenda
from connector.sync.forecast import Forecast, everywhere, forecast
from connector.sync.planner import MostWorth, Picture
from connector.sync.policy import Policy
from connector.sync.probes import Probe
from connector.sync.rates import HOUR
from connector.sync.unread import first_reads, read_by
from connector.sync.worth import Expected, steady

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POSTS_ONLY = ("posts", "comments", "reactions")


@dataclass(frozen=True)
class Even:
    """Rows that come at one rate for ever: at each list its own, by parent; none at those not named."""

    lists: Mapping[str, float]
    tops: Mapping[str, float]

    def births(self, stream: Stream) -> float:
        return self.tops.get(stream.name, 0.0)

    def unseen(self, stream: Stream, parent: ParentState, child: ChildState, since: datetime) -> Expected:
        return Expected(0.0, 0.0)

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:
        return self.lists.get(parent.id, 0.0)

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        return Expected(0.0, 0.0)


def picture(
    posts: int, counter: str = "4", *, streams: tuple[str, ...] = POSTS_ONLY, every: float = 48.0
) -> Picture:
    """An account whose posts lie some hours apart, the newest of an hour ago, all read up to now."""
    names = [f"p{number}" for number in range(posts)]
    dates = [NOW - HOUR - number * every * HOUR for number in range(posts)]
    progress = Progress(
        {name: StreamState(0, name, complete=True, looked_at=NOW) for name in CATALOGUE},
        {
            "posts": {
                name: ParentState(name, date, known_at=NOW, looked_at=NOW, proved_at=NOW)
                for name, date in zip(names, dates, strict=True)
            }
        },
        {
            stream: {name: ChildState(0, name, counter, counter, swept_at=NOW) for name in names}
            for stream in ("comments", "reactions")
        },
    )
    policy = Policy(frozenset(streams), NOW - 30 * DAY, Naming("d", "a", "c"))
    return Picture(CATALOGUE, policy, progress, None)


def lively(posts: int, seed: int = 1) -> tuple[Picture, Even]:
    """Posts of very different pace, a new one now and then, and NPS."""
    rng = Random(seed)
    rates = {f"p{number}": 0.1 * 2.0 ** -rng.uniform(0, min(9, number)) for number in range(posts)}
    streams = (*POSTS_ONLY, "nps")
    return picture(posts, streams=streams), Even(rates, {"posts": 0.02, "nps": 0.15})


def of(found: Picture, known: Even | None = None, every: float = 1.0) -> Survey:
    return Survey([found], NOW, every, known)


BUDGETS = (10, 20, 40, 80, 160, 320, 640)


def test_more_budget_means_less_delay() -> None:
    survey = of(*lively(60))
    found = [forecast(survey, budget) for budget in BUDGETS]
    for less, more in pairwise(found):
        assert less.mean is not None and more.mean is not None  # noqa: PT018
        assert more.mean < less.mean or less.mean == 0.5
        assert more.delays.keys() == less.delays.keys() == {"posts", "comments", "reactions", "nps"}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("posts", [9, 60, 300])
def test_what_is_asked_is_what_the_budget_brings(posts: int, budget: int) -> None:
    survey = of(*lively(posts))
    spent = sum(forecast(survey, budget).requests.values())
    most = sum(forecast(survey, 1e9).requests.values())
    if forecast(survey, budget).keeps_up:
        assert spent == pytest.approx(min(budget, most), rel=0.05)
    else:
        assert (posts, budget) in ((300, 10), (300, 20))


def test_with_budget_to_spare_rows_wait_for_the_next_run() -> None:
    survey = of(*lively(9), every=2.0)
    for budget in (1e6, None):
        found = forecast(survey, budget)
        assert found.mean == pytest.approx(1.0)
        assert list(found.delays.values()) == [pytest.approx(1.0)] * 4


def test_at_an_account_where_nothing_happens_nothing_is_late() -> None:
    survey = of(picture(25), Even({}, {}))
    for budget in (30.0, None):
        found = forecast(survey, budget)
        assert found.mean is None
        assert not found.delays
    assert survey.rows["comments"] == 0


@pytest.mark.parametrize("per_day", [0.0, 5.0])
def test_where_more_comes_than_can_be_read_nothing_is_promised(per_day: float) -> None:
    found = forecast(of(*lively(300)), per_day)
    assert not found.keeps_up
    assert (found.mean, found.delays, found.requests, found.audit_round) == (None, {}, {}, None)


@pytest.mark.parametrize("per_day", [30.0, 600.0, None])
def test_before_the_first_run(per_day: float | None) -> None:
    never = replace(picture(0, streams=tuple(CATALOGUE)), progress=Progress())
    survey = Survey([never], NOW, 1.0)
    found = forecast(survey, per_day)
    assert set(found.delays) == {"posts", "feature_requests", "nps"}
    assert found.audit_round is None
    assert everywhere(survey, 24) == pytest.approx(3 * MONTH / 24)
    assert first_reads([never]).discovering == ("posts", "feature_requests")
    assert forecast(Survey([], NOW, 1.0), per_day).mean is None


def test_a_pass_costs_a_request_for_ten_posts_one_for_nps_and_the_lists_that_move() -> None:
    still = of(picture(60, streams=(*POSTS_ONLY, "nps")), Even({}, {}))
    assert everywhere(still, 24) == pytest.approx(7 * MONTH / 24)
    busy = of(picture(60, streams=(*POSTS_ONLY, "nps")), Even({"p3": 0.1}, {}))
    # Both lists of one post: a tenth of a row an hour is seen to have moved by nine looks in ten a day.
    assert everywhere(busy, 24) == pytest.approx((7 + 2 * 0.909) * MONTH / 24, rel=0.01)


def test_two_connections_of_an_account_share_its_budget() -> None:
    found, known = lively(60)
    alone, both = (forecast(Survey([found] * n, NOW, 1.0, known), 40) for n in (1, 2))
    assert alone.mean is not None
    assert both.mean is not None
    assert both.mean > 1.3 * alone.mean


def test_lists_whose_counters_are_not_trusted_take_a_request_each() -> None:
    found, known = lively(60)
    trusted = forecast(of(found, known), 40)
    found.progress.streams["comments"].distrusted = True
    doubted = forecast(of(found, known), 40)
    assert doubted.delays["comments"] > 1.2 * trusted.delays["comments"]
    assert sum(doubted.requests.values()) == pytest.approx(40, rel=0.05)


def test_no_row_waits_much_longer_than_max_age() -> None:
    slow = {f"p{number}": 0.0004 for number in range(60)}
    found = forecast(of(picture(60), Even(slow | {"p0": 0.5}, {})), 20)
    assert found.delays["comments"] <= 7 * 24 / 2


def test_rows_a_month_are_those_at_known_posts_and_at_new_ones() -> None:
    found, known = lively(60)
    survey = Survey([found], NOW, 1.0)
    assert survey.rows["nps"] > 0
    assert of(found, known).rows["posts"] == pytest.approx(0.02 * MONTH)
    assert of(found, known).rows["nps"] == pytest.approx(0.15 * MONTH)


# --- the audit's round --------------------------------------------------------------------------------


def test_a_round_of_the_audit() -> None:
    quiet = of(picture(300), Even({}, {}))
    found = forecast(quiet, 30)
    # 600 lists of a page each, at least one request in twenty; what the looks leave over is the audit's.
    assert found.audit_round is not None
    assert found.audit_round == pytest.approx(600 / found.requests["audit"] * 24, rel=0.01)
    assert forecast(of(picture(300, counter="0"), Even({}, {})), 30).audit_round is None


def test_lists_that_are_read_anyway_make_the_round_shorter() -> None:
    known = Even({f"p{number}": 0.01 for number in range(300)}, {})
    found = forecast(of(picture(300), known), 30)
    assert found.audit_round is not None
    assert found.requests["audit"] == pytest.approx(1.5)
    assert found.audit_round < 0.6 * 600 / 1.5 * 24


def test_without_a_limit_a_run_audits_one_list_for_twenty_probes() -> None:
    found = forecast(of(picture(300), Even({}, {})), None)
    # Thirty blocks: two lists a run, were they not read once a week already.
    assert found.audit_round == pytest.approx(300, rel=0.01)


# --- first reads --------------------------------------------------------------------------------------


def test_first_reads_are_counted_and_dated() -> None:
    found = picture(20, counter="25")
    for number, child in enumerate(found.progress.children["comments"].values()):
        child.swept = None if number < 19 else child.counter
        child.counter = "0" if number == 0 else child.counter
    found.progress.parents["posts"]["p1"].gone = True
    found.progress.streams["posts"].complete = False
    first = first_reads([found])
    # Of posts younger than the start all three pages are read; of the others one.
    assert (first.lists, first.requests) == ({"comments": 17}, 3 * 13 + 4)
    assert first.discovering == ("posts",)
    assert read_by(first, NOW, 3.0, 20.0) == NOW + 2 * DAY
    assert read_by(first, NOW, 99.0, 20.0) == NOW
    assert read_by(first, NOW, 3.0, 0.0) is None


# --- size ---------------------------------------------------------------------------------------------


def test_ten_thousand_posts_take_less_than_two_seconds() -> None:
    big = picture(10_000, every=6.0)
    for number, child in enumerate(big.progress.children["comments"].values()):
        child.counter = child.swept = str(number * 7919 % 40)
    began = process_time()
    survey = Survey([big], NOW, 1.0)
    found = [forecast(survey, budget) for budget in (30, 60, 600, 3_000, None)]
    assert process_time() - began < 2.0
    assert survey.blocks == 1_000
    assert all(each.mean for each in found)


# --- against the rule itself --------------------------------------------------------------------------


class Days:
    """The planner's rule lived through, an hour at a time: what it asks is answered from made-up rows."""

    def __init__(self, found: Picture, known: Even, per_day: float, seed: int = 5) -> None:
        self.picture, self.known = replace(found, per_day=per_day), known
        self.rng, self.level, self.asked = Random(seed), 3 * per_day, 0
        self.waiting: dict[tuple[str, str], list[datetime]] = {}
        self.delays: list[float] = []

    def go(self, days: int, skipped: int) -> float:
        """The mean delay in hours of the rows that arrived after some days were skipped."""
        planner, now = MostWorth(self._rates()), NOW
        for hour in range(days * 24):
            now = NOW + hour * HOUR
            self._come(now)
            if hour == skipped * 24:
                self.delays, self.asked = [], 0
            self.level = min(self.level + (self.picture.per_day or 0) / 24, 3 * (self.picture.per_day or 0))
            agenda = Agenda(self.asked)
            for probe in planner.begin(self.picture, now):
                agenda.add(probe)
            while self.level >= 1 and (next_one := agenda.next(lambda _: False)):
                self.level -= 1
                self.asked += 1
                for stream, name in self._answer(next_one, now):
                    if follower := planner.follow(self.picture, stream, name, now):
                        agenda.add(follower)
        left = [(now - at) / HOUR for rows in self.waiting.values() for at in rows]
        return sum(self.delays + left) / len(self.delays + left)

    def _rates(self) -> "Steady":
        return Steady(self.known.lists, self.known.tops)

    def _come(self, now: datetime) -> None:
        for stream in ("comments", "reactions"):
            for name, rate in self.known.lists.items():
                while self.rng.random() < rate:
                    self.waiting.setdefault((stream, name), []).append(now)
                    rate -= 1

    def _answer(self, probe: Probe, now: datetime) -> list[tuple[Stream, str]]:
        progress = self.picture.progress
        if probe.look is None:
            child = progress.children[probe.stream.name][probe.parent]
            child.swept, child.swept_at = child.counter, now
            shown = int(child.counter) - self._read.get((probe.stream.name, probe.parent), 4)
            rows = self.waiting.get((probe.stream.name, probe.parent), [])
            self.delays += [(now - at) / HOUR for at in rows[:shown]]
            self.waiting[probe.stream.name, probe.parent] = rows[shown:]
            self._read[probe.stream.name, probe.parent] = int(child.counter)
            return []
        for name in probe.look.block.members:
            parent = progress.parents["posts"][name]
            parent.looked_at = parent.proved_at = now
            for stream in ("comments", "reactions"):
                child = progress.children[stream][name]
                rows = self.waiting.get((stream, name), [])
                child.counter = str(self._read.get((stream, name), 4) + len(rows))
                child.waits_since = now
        return [
            (CATALOGUE[stream], name)
            for name in probe.look.block.members
            for stream in ("comments", "reactions")
        ]

    @property
    def _read(self) -> dict[tuple[str, str], int]:
        return self.__dict__.setdefault("read", {})

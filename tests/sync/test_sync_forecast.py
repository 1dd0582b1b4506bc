"""How late rows will be: figures without a store, and against the planner living through days."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from random import Random
from time import process_time

import pytest

from connector.beamer.catalogue import CATALOGUE, POSTS, Stream
from connector.segment.shape import Naming
from connector.state.ledger import Balance
from connector.state.progress import ChildState, ParentState, Progress, StreamState
from connector.sync.forecasting.activity import MONTH, Survey
from connector.sync.forecasting.forecast import everywhere, forecast, share
from connector.sync.forecasting.unread import first_reads, read_by
from connector.sync.planning.agenda import Agenda
from connector.sync.planning.curves import HOUR
from connector.sync.planning.picture import Picture
from connector.sync.planning.planner import MostWorth
from connector.sync.planning.probes import Probe, Turn
from connector.sync.planning.worth import Expected, steady
from connector.sync.policy import Policy

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POSTS_ONLY = ("posts", "comments", "reactions")


@dataclass
class Even:
    """Rows that come at one rate for ever: at each list of a post its own, by the post's name."""

    lists: Mapping[str, float]
    tops: Mapping[str, float]
    usual: float = 0.0
    now: datetime = NOW
    held: Mapping[str, float] = field(default_factory=dict)

    def sent(self, stream: Stream) -> float:
        return 1.0 - self.held.get(stream.name, 0.0)

    def births(self, stream: Stream) -> float:
        return self.tops.get(stream.name, 0.0)

    def unseen(
        self,
        stream: Stream,
        parent: ParentState,
        child: ChildState,  # noqa: ARG002
        since: datetime,
    ) -> Expected:
        return steady(self.lists.get(parent.id, 0.0), self.now - since).times(1.0, self.sent(stream))

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:  # noqa: ARG002
        return self.lists.get(parent.id, 0.0)

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        return steady(self.usual, (until - since) * HOUR).times(1.0, self.sent(stream))


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


def test_a_budget_goes_to_the_rows_that_are_sent() -> None:
    """What is held back is read later, and what is sent sooner for it; the mean is that of what is sent."""
    found, known = lively(60)
    held = replace(known, held={"reactions": 0.9})
    all_sent, most_held = (forecast(of(found, each), 20) for each in (known, held))
    assert most_held.delays["reactions"] > all_sent.delays["reactions"]
    for stream in ("comments", "nps"):
        assert most_held.delays[stream] < all_sent.delays[stream]
    assert most_held.mean is not None
    assert all_sent.mean is not None
    assert most_held.mean < all_sent.mean


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


def test_lists_longer_than_a_page_take_more_requests_to_read() -> None:
    rates = Even({f"p{number}": 0.3 for number in range(20)}, {}, usual=0.3)
    short, long = (forecast(of(picture(20, counter, every=400), rates), 200) for counter in ("9", "900"))
    assert short.mean is not None
    assert long.mean is not None
    assert long.mean > short.mean


def test_lists_that_are_read_anyway_make_the_round_shorter() -> None:
    known = Even({f"p{number}": 0.01 for number in range(300)}, {})
    found = forecast(of(picture(300), known), 30)
    assert found.audit_round is not None
    assert found.requests["audit"] == pytest.approx(30 * share(Turn.AUDIT))
    assert found.audit_round < 0.6 * 600 / found.requests["audit"] * 24


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
    # At the least their own share of what comes in.
    per_day = 2 / share(Turn.HISTORY)
    assert read_by(first, NOW, balance(3.0, per_day)) == NOW + 20 * DAY
    assert read_by(first, NOW, balance(99.0, per_day)) == NOW
    assert read_by(first, NOW, balance(3.0, 0.0)) is None
    assert read_by(first, NOW, balance(None, None)) == NOW


def test_first_reads_take_their_share_of_the_budget() -> None:
    survey = of(*lively(60))
    few, many = (forecast(survey, 30, unread) for unread in (10, 10_000))
    assert few.requests["history"] == pytest.approx(10 / MONTH * 24)
    assert many.requests["history"] == pytest.approx(30 * share(Turn.HISTORY))
    assert few.mean is not None
    assert many.mean is not None
    assert few.mean < many.mean
    assert sum(many.requests.values()) == pytest.approx(30, rel=0.05)


def balance(level: float | None, per_day: float | None) -> Balance:
    left = None if level is None else 500
    return Balance(0, left, None, False, {}, NOW, level=level, per_day=per_day)


# --- size ---------------------------------------------------------------------------------------------


def test_ten_thousand_posts_take_less_than_two_seconds() -> None:
    big = picture(10_000, every=6.0)
    for number, child in enumerate(big.progress.children["comments"].values()):
        child.counter = child.swept = str(number * 7919 % 40)
    began = process_time()
    survey = Survey([big], NOW, 1.0)
    found = [forecast(survey, budget) for budget in (600, None)]
    assert process_time() - began < 2.0
    assert survey.blocks == 1_000
    assert all(each.mean for each in found)


# --- against the rule itself --------------------------------------------------------------------------


class Days:
    """The rule lived through, an hour at a time: the planner asks, and made-up rows answer."""

    def __init__(self, found: Picture, known: Even, per_day: float) -> None:
        self.picture, self.per_day = replace(found, per_day=per_day), per_day
        self.rates = known
        self.rng = Random(5)
        self.level, self.asked, self.now = per_day, 0, NOW
        self.waiting: dict[tuple[str, str], list[datetime]] = {}
        self.delays: list[float] = []

    def go(self, days: int, skipped: int) -> float:
        """The mean delay in hours of what was read after some days, and of what still waits."""
        planner = MostWorth(self.rates)
        for hour in range(days * 24):
            self.now = self.rates.now = NOW + hour * HOUR
            self.level = min(self.level + self.per_day / 24, 3 * self.per_day)
            if hour == skipped * 24:
                self.delays = []
            self._come()
            self._run(planner)
        late = [
            (self.now - at) / HOUR
            for (stream, _), rows in self.waiting.items()
            for at in rows
            if self.rng.random() < self.rates.sent(CATALOGUE[stream])
        ]
        return sum(self.delays + late) / len(self.delays + late)

    def _come(self) -> None:
        for name, rate in self.rates.lists.items():
            for stream in ("comments", "reactions"):
                if self.rng.random() < rate:
                    self.waiting.setdefault((stream, name), []).append(self.now - self.rng.random() * HOUR)

    def _run(self, planner: MostWorth) -> None:
        agenda = Agenda(self.asked)
        for each in planner.begin(self.picture, self.now):
            agenda.add(each)
        while self.level >= 1 and (probe := agenda.next(lambda _: False)):
            self.asked += 1
            self.level -= 1 if probe.look else self._read(probe)
            if probe.look:
                for stream, name in self._look(probe.look.block.members):
                    if follower := planner.follow(self.picture, stream, name, self.now):
                        agenda.add(follower)

    def _look(self, members: Iterable[str]) -> Iterator[tuple[Stream, str]]:
        """The counters of a block's posts, which come to show what waits."""
        for name in members:
            parent = self.picture.progress.parents["posts"][name]
            parent.looked_at = parent.proved_at = self.now
            for stream in self.picture.below(POSTS):
                rows = self.waiting.get((stream.name, name), [])
                child = self.picture.progress.children[stream.name][name]
                child.counter = str(int(child.swept or 0) + len(rows))
                child.waits_since = rows[len(rows) // 2] if rows else None
                yield stream, name

    def _read(self, probe: Probe) -> int:
        """Read all that a list holds; give the pages that took."""
        child = self.picture.progress.children[probe.stream.name][probe.parent]
        rows = self.waiting.pop((probe.stream.name, probe.parent), [])
        sent = self.rates.sent(probe.stream)
        self.delays += [(self.now - at) / HOUR for at in rows if self.rng.random() < sent]
        child.counter = child.swept = str(int(child.swept or 0) + len(rows))
        child.swept_at = self.now
        return max(1, ceil(len(rows) / probe.stream.cap))


@pytest.mark.parametrize("held", [0.0, 0.8])
@pytest.mark.parametrize(("posts", "per_day"), [(30, 8), (30, 24), (60, 30)])
def test_the_forecast_is_near_what_the_rule_comes_to(posts: int, per_day: int, held: float) -> None:
    found, known = lively(posts)
    known.held = {"reactions": held}
    found = replace(found, policy=replace(found.policy, streams=frozenset(POSTS_ONLY[1:])))
    expected = forecast(of(found, known), per_day).mean
    assert expected is not None
    lived = Days(found, known, per_day).go(days=40, skipped=10)
    assert expected == pytest.approx(lived, rel=0.35)

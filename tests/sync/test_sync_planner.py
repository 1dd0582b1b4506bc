"""What is asked, and in which order: plan inputs in, probes out."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from math import exp
from random import Random
from time import process_time

import pytest

from connector.beamer.streams import CATALOGUE
from connector.domain.budget import Balance
from connector.domain.state import ChildState, ParentState, Progress, StreamState
from connector.segment.shaping import Naming
from connector.sync.lists import blocks
from connector.sync.planning.audit import AuditEverything
from connector.sync.planning.planner import LimitedPlanner
from connector.sync.planning.probes import Job, PlanInputs, Probe, Tier
from connector.sync.planning.queue import FIRST_PRICE, TIERS, Price, ProbeQueue, price_now
from connector.sync.planning.start import queue_for
from connector.sync.policy import Policy

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LOOK = blocks.begin(blocks.cut([])[0], proving=True)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CHILDREN = {
    "posts": ("comments", "reactions"),
    "feature_requests": ("feature_request_comments", "feature_request_votes"),
}


def inputs(posts: int = 60, requests: int = 30, available: float | None = 100.0) -> PlanInputs:
    """An account that was read whole an hour ago: a post every other day, every list in step."""
    progress = Progress()
    for number, name in enumerate(CATALOGUE, 1):
        progress.streams[name] = StreamState(number, name, complete=True, checked_at=NOW - HOUR, recent=9.0)
    for stream, how_many in (("posts", posts), ("feature_requests", requests)):
        below = CHILDREN[stream]
        progress.parents[stream] = {}
        for name in below:
            progress.children[name] = {}
        for number in range(how_many):
            key, date = f"{stream}-{number}", NOW - 2 * DAY * number - 5 * HOUR
            progress.parents[stream][key] = ParentState(
                key, date, known_at=max(date, NOW - 20 * DAY), checked_at=NOW - HOUR, proved_at=NOW - HOUR
            )
            for name in below:
                scope = progress.streams[name].scope
                progress.children[name][key] = ChildState(
                    scope, key, "9", "9", read_at=NOW - HOUR, deep_at=NOW - HOUR, whole_at=NOW - HOUR
                )
    policy = Policy(frozenset(CATALOGUE), NOW - 30 * DAY, Naming("dest", "acct", "default"))
    return PlanInputs(CATALOGUE, policy, progress, 0, 27.0, available)


def begin(found: PlanInputs) -> list[Probe]:
    return sorted(LimitedPlanner().begin(found, NOW), key=lambda probe: probe.priority, reverse=True)


def unchecked(found: PlanInputs, since: timedelta, stream: str = "posts", newest: bool | None = None) -> None:
    """A block, or the whole stream, was last looked at so long ago."""
    parents = found.progress.parents[stream]
    cut = blocks.cut((parent.date, parent.id) for parent in parents.values())
    chosen = cut if newest is None else [cut[0] if newest else cut[-1]]
    for block in chosen:
        for name in block.members:
            parents[name].checked_at = NOW - since


def moved(found: PlanInputs, name: str, parent: str, rows: int = 1, hours: float = 2.0) -> ChildState:
    child = found.progress.children[name][parent]
    child.counter, child.waits_since = str(9 + rows), NOW - hours * HOUR
    return child


def test_young_posts_are_looked_at_before_old_ones() -> None:
    found = inputs()
    unchecked(found, 12 * HOUR)
    checks = [probe for probe in begin(found) if probe.check and probe.stream.name == "posts"]
    assert checks[0].check is not None
    assert checks[0].check.block.until is None
    assert checks[0].priority > 3 * checks[-1].priority > 0


def test_what_was_not_looked_at_for_longer_is_worth_more() -> None:
    priorities = []
    for hours in (2, 8, 30, 100):
        found = inputs()
        unchecked(found, hours * HOUR, newest=False)
        priorities.append(next(p.priority for p in begin(found) if p.check and p.check.block.since is None))
    assert priorities == sorted(priorities)
    assert priorities[-1] > 50 * priorities[0]


def test_a_row_that_is_seen_to_wait_comes_before_looking_on() -> None:
    found = inputs()
    unchecked(found, 12 * HOUR)
    moved(found, "comments", "posts-50")
    first = begin(found)[0]
    assert (first.stream.name, first.parent, first.reason) == ("comments", "posts-50", "counter 9 → 10")


def test_where_rows_come_often_one_waits_for_others_to_share_the_request() -> None:
    found = inputs()
    busy, quiet = moved(found, "reactions", "posts-0"), moved(found, "reactions", "posts-55")
    busy.recent, busy.recent_at = 200.0, NOW - HOUR
    ranked = [probe.parent for probe in begin(found) if probe.reason.startswith("counter")]
    assert ranked == ["posts-55", "posts-0"]
    # When enough have gathered, it is worth more than what comes seldom.
    moved(found, "reactions", "posts-0", rows=400)
    quiet.recent, quiet.recent_at = 200.0, NOW - HOUR
    assert begin(found)[0].parent == "posts-0"


def hold_back(found: PlanInputs, stream: str, share: float = 0.9) -> None:
    """Of the stream's latest rows such a share was not to be sent."""
    state = found.progress.streams[stream]
    state.verdict_count, state.to_send_count = 100.0, 100.0 * (1 - share)


def test_a_setting_makes_the_rows_of_a_stream_count_more_or_less() -> None:
    found = inputs()
    moved(found, "comments", "posts-40")
    moved(found, "reactions", "posts-40", rows=2)
    assert begin(found)[0].stream.name == "reactions"
    weighed = replace(found, policy=replace(found.policy, weights={"reactions": 0.2, "posts": 0.0}))
    assert begin(weighed)[0].stream.name == "comments"
    (before,), (after,) = (
        [probe.priority for probe in begin(each) if probe.stream.name == "nps" and not probe.audit]
        for each in (found, replace(found, policy=replace(found.policy, weights={"nps": 5.0})))
    )
    assert after == pytest.approx(5 * before)


def test_nobody_waits_for_rows_that_are_excluded() -> None:
    found = inputs()
    moved(found, "comments", "posts-40")
    moved(found, "reactions", "posts-40", rows=2)
    assert begin(found)[0].stream.name == "reactions"
    hold_back(found, "reactions")
    assert begin(found)[0].stream.name == "comments"


@pytest.mark.parametrize("stream", ["nps", "reactions", "feature_requests", "feature_request_votes"])
def test_what_is_excluded_makes_a_look_worth_less(stream: str) -> None:
    def priority(found: PlanInputs) -> float:
        unchecked(found, 12 * HOUR)
        unchecked(found, 12 * HOUR, "feature_requests")
        top = CATALOGUE[stream].parent or stream
        checks = (probe for probe in begin(found) if probe.stream.name == top)
        return next(
            probe.priority for probe in checks if probe.check is None or probe.check.block.until is None
        )

    held = inputs()
    hold_back(held, stream)
    assert 0 < priority(held) < priority(inputs())


def test_history_never_comes_before_what_is_said_today_but_has_its_share() -> None:
    found = inputs()
    for child in found.progress.children["comments"].values():
        child.read_counter = child.read_at = None
    unchecked(found, 24 * HOUR)
    probes = begin(found)
    history = [probe for probe in probes if probe.tier is Tier.HISTORY]
    assert len(history) == 60
    checks = [probe for probe in probes if probe.check and probe.stream.name == "posts"]
    old = [probe for probe in history if int(probe.parent.removeprefix("posts-")) > 20]
    assert min(probe.priority for probe in checks) > max(probe.priority for probe in old)
    # Of the young posts first: there are the rows since the start date.
    assert history[0].parent in {f"posts-{number}" for number in range(16)}


def test_a_look_is_worth_as_much_where_lists_were_never_read() -> None:
    """Old posts, most of whose lists are history, were all but forgotten: only looks show what is new."""
    priorities = []
    for never_read in (False, True):
        found = inputs()
        unchecked(found, 48 * HOUR)
        for child in found.progress.children["comments"].values() if never_read else ():
            child.read_counter = child.read_at = None
        priorities.append([probe.priority for probe in begin(found) if probe.check])
    assert priorities[1] == pytest.approx(priorities[0])


def test_what_waited_longer_than_max_age_gets_a_turn() -> None:
    found = inputs()
    unchecked(found, 8 * DAY, newest=False)
    overdue = [probe for probe in begin(found) if probe.tier is Tier.OVERDUE]
    assert [(probe.stream.name, round(probe.overdue)) for probe in overdue] == [("posts", 24)]


@pytest.mark.parametrize("never_read", [False, True])
def test_what_a_counter_announced_longer_ago_than_max_age_comes_before_anything_else(
    never_read: bool,
) -> None:
    found = inputs()
    unchecked(found, 9 * DAY)
    for number, days in ((40, 8), (50, 20), (30, 6)):
        child = moved(found, "comments", f"posts-{number}", hours=24 * days)
        if never_read:
            child.read_counter, child.recent, child.recent_at = None, 1.0, NOW - days * DAY
    queue = ProbeQueue()
    for probe in begin(found):
        queue.add(probe)
    asked = [next_of(queue) for _ in range(3)]
    assert [probe.parent for probe in asked if probe and probe.list_pass] == ["posts-50", "posts-40"]


@pytest.mark.parametrize(("date", "first"), [(NOW - 8 * DAY, True), (NOW - 6 * DAY, False)])
def test_a_list_of_a_post_that_came_since_the_account_is_known_does_not_wait_as_history_does(
    date: datetime, first: bool
) -> None:
    found = inputs()
    post = found.progress.parents["posts"]["posts-3"]
    post.date = post.known_at = date
    child = found.progress.children["comments"]["posts-3"]
    child.read_counter = child.read_at = None
    (probe,) = (each for each in begin(found) if each.parent == "posts-3" and each.stream.name == "comments")
    assert (probe.tier, probe.announced) == (Tier.HISTORY, first)


def test_no_more_lists_are_planned_than_can_be_asked() -> None:
    found = inputs(posts=300, available=5.0)
    for number in range(300):
        moved(found, "comments", f"posts-{number}")
    assert sum(probe.reason.startswith("counter") for probe in begin(found)) == 25


def test_a_page_of_posts_that_failed_twice_comes_last_until_something_was_answered() -> None:
    """With one request at hand an hour it was the one that was asked, hour after hour."""
    found = inputs()
    unchecked(found, 30 * DAY, newest=False)
    parents = found.progress.parents["posts"]
    oldest = blocks.cut((parent.date, parent.id) for parent in parents.values())[-1]
    for name in oldest.members:
        parents[name].failures, parents[name].failed_at = 2, NOW - 2 * HOUR
    found.progress.streams.update(
        {name: replace(state, checked_at=NOW - 3 * HOUR) for name, state in found.progress.streams.items()}
    )

    def failing() -> Probe:
        checks = (probe for probe in begin(found) if probe.stream.name == "posts" and probe.check)
        return next(probe for probe in checks if probe.required_check.block.since is None)

    assert failing().tier is Tier.LAST
    found.progress.streams["nps"].checked_at = NOW - HOUR
    assert failing().tier is not Tier.LAST


def test_what_failed_comes_after_everything_that_is_worth_its_price_and_before_what_is_not() -> None:
    queue = ProbeQueue(2, available=8.0, price=Price(level=10.0, target=8.0))
    for name, priority, tier in (
        ("dear", 5.0, Tier.PRIORITY),
        ("failed", 90.0, Tier.LAST),
        ("good", 50.0, Tier.PRIORITY),
        ("failed and dear", 5.0, Tier.LAST),
    ):
        queue.add(Probe(CATALOGUE["comments"], "why", name, priority=priority, tier=tier))
    assert [probe.parent for probe in (next_of(queue), next_of(queue), next_of(queue)) if probe] == [
        "good",
        "failed",
    ]


def test_a_first_look_comes_before_everything() -> None:
    found = inputs(posts=0, requests=0)
    for name in CHILDREN:
        found.progress.streams[name].complete = False
        found.progress.streams[name].checked_at = None
    found.progress.streams["nps"].checked_at = None
    asked = [probe for probe in begin(found) if probe.tier is Tier.PRIORITY]
    assert {probe.priority for probe in asked} == {float("inf")}
    assert {probe.stream.name for probe in asked} == {"posts", "feature_requests", "nps"}


def test_lists_of_counters_that_are_not_trusted_are_asked_without_them() -> None:
    found = inputs()
    found.progress.streams["comments"].distrusted = True
    for child in found.progress.children["comments"].values():
        child.read_at = NOW - 3 * DAY
    asked = {probe.parent for probe in begin(found) if probe.stream.name == "comments"}
    assert len(asked) == 60


def next_of(queue: ProbeQueue) -> Probe | None:
    """The probe that is asked next."""
    job = queue.next(lambda _: False)
    return job.probe if job else None


# --- the price of a request ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "available", "per_day", "hours", "level"),
    [
        (None, 8.0, 27.0, 0.0, FIRST_PRICE),
        (10.0, 8.1, 27.0, 1.0, 10.0),
        (10.0, 0.0, 27.0, 1.0, 10.0 * exp(0.02)),
        (10.0, 24.3, 27.0, 1.0, 10.0 * exp(-0.04)),
        (10.0, 500.0, 27.0, 1.0, 10.0 * exp(-0.04)),
        (10.0, 500.0, 27.0, -5.0, 10.0),
        (10.0, 27.0, 27.0, 24.0, None),
        (None, 27.0, 27.0, 24.0, None),
        (10.0, None, None, 1.0, None),
        (10.0, 0.0, 0.0, 1.0, None),
        (0.011, 500.0, 27.0, 7.0, 0.01),
        (9e5, 0.0, 100_000.0, 6.0, 1e6),
    ],
)
def test_the_price_rises_while_little_is_at_hand_and_falls_while_much_is(
    before: float | None, available: float | None, per_day: float | None, hours: float, level: float | None
) -> None:
    found = price_now(before, available, per_day, hours)
    assert (found and found.level) == pytest.approx(level)


def test_a_request_is_kept_for_what_is_worth_more() -> None:
    queue = ProbeQueue(2, available=8.0, price=Price(level=10.0, target=8.0))
    for name, priority in (("1", 30.0), ("2", 12.0), ("3", 5.0)):
        queue.add(Probe(CATALOGUE["comments"], "why", name, priority=priority))
    assert [probe and probe.parent for probe in (next_of(queue), next_of(queue), next_of(queue))] == [
        "1",
        "2",
        None,
    ]
    # With more at hand than is to be kept it is less.
    queue.available = 16.0
    assert next_of(queue) is not None


def test_what_was_announced_too_long_ago_and_each_share_have_no_price() -> None:
    dear = Price(level=1e9, target=8.0)
    queue = ProbeQueue(2, available=8.0, price=dear)
    queue.add(Probe(CATALOGUE["comments"], "why", "1", overdue=3.0, announced=True))
    assert next_of(queue) is not None
    for tier, (every, which) in TIERS.items():
        queue = ProbeQueue(every + which, available=8.0, price=dear)
        for probe in probes_of({Tier.PRIORITY: 1, tier: 1}):
            queue.add(probe)
        assert [probe.tier for probe in (next_of(queue),) if probe] == [tier]
        assert next_of(queue) is None


@pytest.mark.parametrize(("available", "asked"), [(8.0, 0), (16.0, 0), (19.0, 3)])
def test_history_is_read_from_what_is_at_hand_beyond_twice_the_target(available: float, asked: int) -> None:
    queue = ProbeQueue(2, available=available, price=Price(level=1e9, target=8.0))
    for probe in probes_of({Tier.PRIORITY: 1, Tier.HISTORY: 9}):
        queue.add(probe)
    assert ordered(queue) == [Tier.HISTORY] * asked


def test_what_a_person_asks_for_has_no_price() -> None:
    balance = Balance(0, 900, None, False, {}, NOW, level=5.0, per_day=27.0)
    planned, asked = LimitedPlanner(), AuditEverything(NOW)
    prices = [queue_for(each, balance, NOW, before=NOW - HOUR, price=3.0).price for each in (planned, asked)]
    assert prices[0]
    assert not prices[1]


# --- the order in which they are asked -----------------------------------------------------------------


def probes_of(tiers: dict[Tier, int]) -> Iterator[Probe]:
    number = count()
    for tier, how_many in tiers.items():
        for _ in range(how_many):
            priority = 100.0 if tier is Tier.PRIORITY else 0.1
            yield Probe(CATALOGUE["comments"], "why", str(next(number)), priority=priority, tier=tier)


def ordered(queue: ProbeQueue) -> list[Tier]:
    found = []
    while probe := next_of(queue):
        found.append(probe.tier)
    return found


@pytest.mark.parametrize("spent_before", [0, 1, 7, 1_234_567])
def test_each_share_of_the_requests_is_kept(spent_before: int) -> None:
    queue = ProbeQueue(spent_before)
    for probe in probes_of(dict.fromkeys(Tier, 200)):
        queue.add(probe)
    first = ordered(queue)[:200]
    for tier, (every, _) in TIERS.items():
        assert first.count(tier) == pytest.approx(200 / every, abs=1.01)


def test_shares_of_many_small_runs_add_up() -> None:
    spent_before, found = 0, []
    for _ in range(300):
        queue = ProbeQueue(spent_before, available=1.5)
        for probe in probes_of(dict.fromkeys(Tier, 3)):
            queue.add(probe)
        found.append(next_of(queue))
        spent_before = queue.spent_before
    tiers = [probe.tier for probe in found if probe]
    for tier, (every, _) in TIERS.items():
        assert tiers.count(tier) == pytest.approx(300 / every, abs=1.01)


def test_a_look_waits_until_what_it_shows_can_be_read() -> None:
    check = Probe(CATALOGUE["posts"], "why", "look", priority=50.0, needs=4.5)
    small = Probe(CATALOGUE["comments"], "why", "1", priority=10.0)
    queue = ProbeQueue(0, available=3.0)
    queue.add(check)
    queue.add(small)
    # Nothing of less priority takes what is being saved.
    assert next_of(queue) is None
    assert queue.saving == pytest.approx(1.5)
    queue.available = 4.6
    assert next_of(queue) is check
    assert next_of(queue) is small


def with_a_check(available: float) -> tuple[ProbeQueue, Job, Probe]:
    """A look of three pages that has begun, and a list of less priority that waits."""
    check = Probe(CATALOGUE["posts"], "why", "look", priority=50.0, needs=3.0, further_pages=2)
    small = Probe(CATALOGUE["comments"], "why", "1", priority=10.0)
    queue = ProbeQueue(0, available=available)
    queue.per_run = 1.0
    queue.add(check)
    queue.add(small)
    job = queue.next(lambda _: False)
    assert job is not None
    assert job.probe is check
    return queue, job, small


def test_what_a_look_needs_to_come_to_its_end_is_kept_for_it() -> None:
    """It begins anew in the next run: half a check is asked for again and again."""
    queue, job, small = with_a_check(3.4)
    for _ in range(2):
        assert next_of(queue) is None
        queue.put_first(job)
        assert queue.next(lambda _: False) is job
    queue.close(job)
    # What is less than a request is for the ledger to refuse, which says so.
    assert next_of(queue) is small


def test_what_was_kept_for_a_look_that_is_given_up_is_for_others() -> None:
    queue, job, small = with_a_check(3.4)
    queue.release(job)
    assert next_of(queue) is small
    queue, job, small = with_a_check(3.4)
    queue.put_first(job)
    queue.drop("posts")
    assert next_of(queue) is small


def test_history_keeps_to_its_share_until_everything_was_seen_once() -> None:
    """Page followed page while the other threads spent the first evening's requests on old lists."""
    queue = ProbeQueue(0, available=500.0)
    first = Probe(CATALOGUE["posts"], "why", priority=float("inf"), check=LOOK, unseen=True)
    queue.add(first)
    for probe in probes_of({Tier.HISTORY: 200}):
        queue.add(probe)
    job = queue.next(lambda _: False)
    assert job is not None
    assert job.probe is first
    for tier in range(1, 100):
        asked = next_of(queue)
        assert (asked is None) == (tier % TIERS[Tier.HISTORY][0] != TIERS[Tier.HISTORY][1]), tier
        queue.spent_before = tier + 1
    queue.close(job)
    assert len(ordered(queue)) == 200 - 5


def test_a_page_that_failed_is_tried_again_with_what_is_left() -> None:
    queue, job, _ = with_a_check(3.0)
    queue.put_first(job)
    assert queue.next(lambda _: False) is job


@pytest.mark.parametrize("short_ends", [True, None, False])
@pytest.mark.parametrize("per_day", [0.2, 0.4, 1.0, 27.0])
def test_no_look_waits_for_more_than_ever_gathers(short_ends: bool | None, per_day: float) -> None:
    found = replace(inputs(), per_day=per_day)
    found.progress.streams["posts"].short_ends = short_ends
    found.progress.streams["posts"].complete = False
    for probe in begin(found):
        assert 1.0 <= probe.needs <= max(1.0, 8 * per_day)
        assert 0 <= probe.further_pages <= probe.needs - 1


def test_a_list_that_is_empty_is_looked_at_like_any_other() -> None:
    """Nothing was known of it still, so that it came first at every run."""
    found = inputs(requests=0)
    found.progress.parents["feature_requests"].clear()
    (empty,) = [probe for probe in begin(found) if probe.stream.name == "feature_requests"]
    assert empty.priority < begin(found)[0].priority


def test_where_a_parent_was_missing_the_look_saves_up_for_two_pages() -> None:
    found = inputs()
    found.progress.streams["posts"].short_ends = True
    found.progress.parents["posts"]["posts-55"].checked_at = NOW - 2 * DAY
    pages = [
        probe.further_pages + 1 for probe in begin(found) if probe.check and probe.stream.name == "posts"
    ]
    assert sorted(pages) == [1, 1, 1, 1, 1, 2]


def test_without_a_limit_everything_is_asked_in_the_order_in_which_it_came() -> None:
    queue = ProbeQueue()
    asked = [Probe(CATALOGUE["comments"], "why", str(number), needs=9.0) for number in range(9)]
    for probe in asked:
        queue.add(probe)
    assert [next_of(queue) for _ in range(10)] == [*asked, None]


def planned_in(posts: int) -> tuple[float, float]:
    """What it takes at best to plan so many posts, and what comes of a page after that: in seconds of CPU."""
    found = inputs(posts=posts, requests=0)
    rng = Random(4)
    for child in found.progress.children["comments"].values():
        if rng.random() < 0.03:
            child.counter, child.waits_since = "10", NOW - HOUR
    whole, pages = [], []
    for _ in range(3):
        planner = LimitedPlanner()
        began = process_time()
        planner.begin(found, NOW)
        whole.append(process_time() - began)
        began = process_time()
        for number in range(100):
            for name in CHILDREN["posts"]:
                planner.follow(found, CATALOGUE[name], f"posts-{number}", NOW)
        pages.append(process_time() - began)
    return min(whole), min(pages)


def test_planning_grows_with_the_posts_and_a_page_costs_the_same_among_many() -> None:
    """As ratios: a busy machine is slow at both. What compares each with each takes 100 times as long."""
    few, many = planned_in(1_000), planned_in(10_000)
    assert many[0] / few[0] < 40
    assert many[1] / few[1] < 8

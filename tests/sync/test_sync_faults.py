"""Beamer going wrong: a clear end, the right exit code, nothing lost and nothing doubled."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.beamer.streams import CATALOGUE
from connector.domain.budget import Limits
from connector.errors import NothingAllowed
from connector.sandbox import Company, Request
from connector.state import progress
from tests.harness import Rig, expected, landed, sandbox
from tests.sandbox import Sandbox
from tests.sync.test_sync_budget import USER, small

JSON = {"Content-Type": "application/json;charset=utf-8"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(small(), f"sqlite:///{tmp_path / 'state.sqlite'}")


def at(path: str) -> Callable[[Request], bool]:
    return lambda request: request.api == "beamer" and request.path.endswith(path)


def answer(body: Any, status: int = 200) -> tuple[Any, ...]:
    return ("answer", status, body if isinstance(body, bytes | str) else json.dumps(body), JSON)


def mend(rig: Rig) -> None:
    """The faults are gone: the next sync completes everything."""
    rig.sandbox.faults.clear()
    rig.sandbox.advance(timedelta(hours=7))  # also past the closing of the account
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.troubles) == (0, [])
    rig.check()
    rig.close()


TROUBLE = ["status_500", "html_502", "html_200", "truncated", "reset_before", "reset_after", "hang"]


@pytest.mark.parametrize("fault", [*TROUBLE, "hang_before", 408])
def test_one_failure_here_and_there_is_retried(rig: Rig, fault: str | int) -> None:
    rig.sandbox.faults.script("beamer", [fault, fault, *(["ok"] * 5), fault, "ok", fault, fault, fault])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.troubles) == (0, [])
    rig.check()
    mend(rig)


@pytest.mark.parametrize("fault", TROUBLE)
def test_beamer_being_away_ends_the_run_with_69(rig: Rig, fault: str) -> None:
    setattr(rig.sandbox.faults, fault, 1.0)
    rig.sandbox.faults.apis = ("beamer",)
    outcome = rig.sync()
    assert outcome.exit == 69
    assert outcome.report.requests_spent == 4
    mend(rig)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chance", [0.05, 0.3])
def test_faults_of_every_kind_at_random(rig: Rig, seed: int, chance: float) -> None:
    faults = rig.sandbox.faults
    faults.__init__(seed)  # type: ignore[misc]
    for name in (*TROUBLE, "busy", "redirect"):
        setattr(faults, name, chance / 5)
    faults.busy_for = 2
    for _ in range(6):
        assert rig.sync().exit in (0, 69)
        rig.sandbox.advance(timedelta(hours=3))
    mend(rig)


def test_a_refused_key_stops_everything_at_once(rig: Rig) -> None:
    rig.api_key = "wrong"
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.requests_spent, rig.beamer_requests) == (77, 1, 1)
    assert rig.api_key not in str(outcome.error)
    rig.api_key = None
    mend(rig)


def test_a_key_refused_later_keeps_what_was_read(rig: Rig) -> None:
    rig.sandbox.faults.script("beamer", [*(["ok"] * 6), *([401] * 9)])
    outcome = rig.sync()
    assert outcome.exit == 77
    assert outcome.report.requests_spent <= 6 + 4
    assert outcome.report.sent > 0
    mend(rig)


@pytest.mark.parametrize("at_request", [2, 5, 9])
def test_one_401_among_good_answers_is_asked_again(rig: Rig, at_request: int) -> None:
    rig.sandbox.faults.script("beamer", [*["ok"] * (at_request - 1), 401])
    outcome = rig.sync()
    assert (outcome.exit, outcome.error) == (0, None)
    rig.check()
    rig.close()


def test_a_key_that_is_refused_among_good_answers_says_what_was_kept(rig: Rig) -> None:
    rig.sandbox.faults.script("beamer", ["ok", *[401] * 9])
    error = rig.sync().error
    assert error
    assert error.means == "Rows that were read before are kept; nothing else was requested."
    mend(rig)


@pytest.mark.parametrize("stream", ["nps", "posts", "comments", "feature_requests", "feature_request_votes"])
def test_what_could_be_read_is_forbidden_only_at_the_second_refusal(rig: Rig, stream: str) -> None:
    rig.sync()
    box = rig.sandbox
    box.switches.may_read.discard(stream)
    for forbidden, code in (([], 69), ([stream], 0), ([stream], 0)):
        box.advance(timedelta(hours=1))
        for parents in ("posts", "feature_requests"):
            parent = box.world.rows(parents)[0].id
            box.world.add("comments" if parents == "posts" else "feature_request_votes", parent, **USER)
        outcome = rig.sync()
        assert (outcome.exit, outcome.report.forbidden) == (code, forbidden)
    box.switches.may_read.add(stream)
    mend(rig)


def test_one_403_for_everything_changes_nothing(rig: Rig) -> None:
    rig.sync()
    rig.sandbox.advance(timedelta(hours=1))
    allowed = set(rig.sandbox.switches.may_read)
    rig.sandbox.switches.may_read.clear()
    first = rig.sync()
    assert (first.exit, first.report.forbidden) == (69, [])
    rig.sandbox.advance(timedelta(hours=1))
    second = rig.sync()
    assert (second.exit, type(second.error)) == (77, NothingAllowed)
    rig.sandbox.switches.may_read |= allowed
    mend(rig)


def test_a_list_that_is_always_forbidden_leaves_its_stream_alone(rig: Rig) -> None:
    rig.sync()
    box = rig.sandbox
    first, second = (row.id for row in box.world.rows("posts")[:2])
    box.faults.on(at(f"/posts/{first}/comments"), [answer("Forbidden", 403)] * 50)
    for _ in range(5):
        box.advance(timedelta(hours=1))
        for post in (first, second):
            box.world.add("comments", post, **USER)
        outcome = rig.sync()
        assert (outcome.report.forbidden, outcome.report.new["comments"] >= 1) == ([], True)
    mend(rig)


def test_one_403_does_not_hide_segmented_posts_for_longer_than_a_run(rig: Rig) -> None:
    box = rig.sandbox
    rig.sync()
    for _ in range(2):
        box.advance(timedelta(hours=1))
        hidden = box.world.add("posts", filter="admins")
        box.faults.on(lambda seen: "ignoreFilters" in seen.params, [answer("No.", 403)])
        assert rig.sync().report.segmented_hidden
        box.advance(timedelta(hours=1))
        outcome = rig.sync()
        assert not outcome.report.segmented_hidden
        assert hidden in {row for event, row in landed(box) if event == "Post Published"}
    rig.close()


@pytest.mark.parametrize("stream", ["nps", "posts", "comments", "feature_requests", "feature_request_votes"])
def test_a_forbidden_stream_is_reported_and_the_others_go_on(rig: Rig, stream: str) -> None:
    rig.sandbox.switches.may_read.discard(stream)
    outcome = rig.sync()
    assert outcome.exit == 0
    assert outcome.report.forbidden == [stream]
    assert outcome.report.sent > 0
    rig.sandbox.switches.may_read.add(stream)
    mend(rig)


def test_a_key_that_may_read_nothing_is_refused(rig: Rig) -> None:
    allowed = set(rig.sandbox.switches.may_read)
    rig.sandbox.switches.may_read.clear()
    outcome = rig.sync()
    assert outcome.exit == 77
    assert outcome.report.requests_spent <= 4
    rig.sandbox.switches.may_read |= allowed
    mend(rig)


def test_the_permission_to_ignore_filters_may_come_and_go(rig: Rig) -> None:
    box = rig.sandbox
    hidden = box.world.add("posts", filter="admins", date=box.now() - timedelta(hours=1), appears=box.now())
    rig.sync()
    box.switches.ignore_filters_allowed = False
    box.advance(timedelta(hours=1))
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.forbidden, outcome.report.segmented_hidden) == (0, [], True)
    box.advance(timedelta(days=8))
    assert rig.sync().report.segmented_hidden
    box.switches.ignore_filters_allowed = True
    box.world.add("comments", hidden, **USER)
    box.advance(timedelta(days=8))
    assert not rig.sync().report.segmented_hidden
    rig.check()
    rig.close()


def test_a_parent_deleted_meanwhile_is_skipped(rig: Rig) -> None:
    world = rig.sandbox.world

    def delete(request: Request) -> None:
        world.delete("posts", request.path.split("/")[-2])

    rig.sandbox.faults.on(at("/comments"), [delete])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.skipped_parents) == (0, 1)
    again = rig.sync()
    assert (again.exit, again.report.skipped_parents, again.report.sent) == (0, 0, 0)
    rig.close()


@pytest.mark.parametrize(
    ("status", "troubles"), [(404, []), (403, ["comments: the key may not read it (403)"])]
)
def test_a_list_that_is_tried_once_more_and_cannot_be_read_is_no_failure(
    rig: Rig, status: int, troubles: list[str]
) -> None:
    """What counts is the last answer: that the post is gone, or that the key may not read the stream."""
    rig.sandbox.faults.on(at("/comments"), [500, *[answer("Not this.", status)] * 400])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.troubles) == (0, troubles)
    rig.close()


@pytest.mark.parametrize("body", [{"error": "x"}, "text", 7, None, True])
@pytest.mark.parametrize("path", ["/nps", "/comments", "/votes"])
def test_a_page_that_is_no_list_keeps_one_list_out_and_not_the_others(rig: Rig, body: Any, path: str) -> None:
    rig.sandbox.faults.on(at(path), [answer(json.dumps(body))] * 400)
    outcome = rig.sync()
    assert outcome.exit == 69
    assert outcome.report.sent > 0
    assert len(outcome.report.troubles) == 1
    assert outcome.report.requests_spent <= 60
    mend(rig)


def test_a_page_that_repeats_the_one_before_loses_no_row(rig: Rig) -> None:
    seen: dict[str, bytes] = {}

    def repeat(request: Request) -> Any:
        """The second page is the first once more, once."""
        if "page" in request.params or "dateTo" in request.params:
            kept = seen.pop(request.path, None)
            if kept:
                return rig.sandbox.perform(
                    Request("beamer", "GET", request.path, {"maxResults": "10"}, request.headers)
                )
        else:
            seen[request.path] = b"asked"
        return None

    rig.sandbox.faults.on(at("/comments"), [repeat] * 400)
    rig.sync()
    mend(rig)


def test_a_cache_that_always_gives_the_first_page_ends_the_list_with_a_trouble(rig: Rig) -> None:
    def first(request: Request) -> Any:
        plain = Request("beamer", "GET", request.path, {"maxResults": "10"}, request.headers)
        return rig.sandbox.perform(plain)

    rig.sandbox.faults.on(at("/votes"), [first] * 400)
    outcome = rig.sync()
    assert outcome.exit in (0, 69)
    assert outcome.report.requests["feature_request_votes"] <= 30
    rig.close()


ODD: list[Any] = [
    {"date": "2026-02-20T00:00:00Z", "userId": "u"},
    {"id": "a1", "userId": "u"},
    {"id": "a2", "date": "yesterday", "userId": "u"},
    {"id": "a3", "date": None, "userId": "u"},
    {"id": ["x"], "date": "2026-02-20T00:00:00Z"},
    {"id": "x" * 65, "date": "2026-02-20T00:00:00Z"},
    {"id": "a4", "date": "2026-02-20T00:00:00Z", "score": "many", "userId": "u"},
    {"id": "a5", "date": "2026-02-20T00:00:00Z", "score": {}, "userId": "u"},
    "a row",
    17,
    None,
    [],
]
GOOD: list[dict[str, Any]] = [
    {"id": 901, "date": "2026-02-20T00:00:00", "score": 9, "userId": 5, "later": {"field": [1]}},
    {"id": "902", "date": "2026-02-20T00:00:00Z", "score": "8", "feedback": None, "userId": "u"},
    {"id": "903", "date": "2026-02-20T01:00:00Z", "score": 3, "feedback": "🙂" * 9_000, "userId": "u"},
    {
        "id": "904",
        "date": "2026-02-20T02:00:00Z",
        "score": 3,
        "feedback": "שלום\u202e\x00 עולם",
        "userId": "u",
    },
    {"id": "905", "date": "2026-02-20T03:00:00Z", "score": 3, "feedback": "x" * 40_000, "userId": "u"},
    {"id": "906", "date": "2026-02-20T04:00:00Z", "score": 3, "feedback": "\ud800 half", "userId": "u"},
]


@pytest.fixture
def odd(database_url: str) -> Rig:
    return Rig(sandbox(company=Company.empty()), database_url)


def test_odd_rows_are_quarantined_and_the_others_go_through(odd: Rig) -> None:
    odd.sandbox.faults.on(at("/nps"), [answer([*ODD, *GOOD]), answer([]), answer([*ODD, *GOOD])])
    outcome = odd.sync()
    assert (outcome.exit, outcome.report.quarantined["nps"]) == (0, len(ODD))
    sent = {m["properties"]["nps_id"]: m["properties"] for m in odd.sandbox.segment.messages}
    assert set(sent) == {str(row["id"]) for row in GOOD}
    assert [name for name in sent if sent[name].get("truncated")] == ["903", "905"]
    assert not odd.sandbox.segment.dropped
    assert odd.sync().report.quarantined.total() == 0
    odd.close()


@pytest.mark.parametrize(("characters", "sent"), [(2_500_000, 1), (5_000_000, 0)])
def test_a_very_long_text_is_shortened_and_a_larger_answer_is_refused(
    odd: Rig, characters: int, sent: int
) -> None:
    # Six bytes each, as JSON.
    large = GOOD[0] | {"feedback": "é" * characters}
    odd.sandbox.faults.on(at("/nps"), [answer([large]), answer([])])
    assert odd.sync().report.sent == sent
    odd.close()


def test_odd_parents_do_not_stop_the_others(odd: Rig) -> None:
    date = "2026-02-20T00:00:00Z"
    rows: list[Any] = [
        {"id": "1", "date": date, "votesCount": "?", "status": "s" * 300, "userId": "u"},
        {"id": "2", "date": date, "votesCount": -4, "status": "a\x00b\ud800", "userId": "u"},
        {"id": "3", "date": date, "commentsCount": [], "translations": "none", "userId": "u"},
        {"id": "4", "userId": "u"},
        None,
    ]
    odd.sandbox.faults.on(at("/requests"), [answer(rows), answer([])] * 4)
    odd.sandbox.faults.on(lambda request: request.path.count("/") > 3, [answer([])] * 99)
    first = odd.sync()
    assert (first.exit, first.report.sent, first.report.quarantined.total()) == (0, 3, 2)
    second = odd.sync()
    assert (second.exit, second.report.sent) == (0, 0)
    assert second.report.requests_spent <= first.report.requests_spent
    odd.close()


def test_a_redirect_is_not_followed(rig: Rig) -> None:
    rig.sandbox.faults.script("beamer", ["redirect"])
    outcome = rig.sync()
    assert (outcome.exit, rig.beamer_requests) == (69, 1)
    mend(rig)


def test_short_bursts_of_429_are_waited_out(rig: Rig) -> None:
    rig.sandbox.faults.script(
        "beamer", ["ok", "ok", "busy", "busy", "ok", "ok", "ok", "busy", "busy", "busy"]
    )
    assert rig.sync().report.stopped is None
    rig.check()
    mend(rig)


def test_when_429_goes_on_the_account_is_closed_at_growing_intervals(rig: Rig) -> None:
    box: Sandbox = rig.sandbox
    rig.sync()
    box.monthly_limit, box.monthly_used = 1_000, 1_000
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.requests_spent) == (0, 4)
    assert outcome.report.next_try is not None
    assert outcome.report.next_try - box.now() <= timedelta(minutes=5)
    assert rig.sync().report.requests_spent == 0
    waits = []
    for _ in range(3):
        box.advance(timedelta(hours=7))
        outcome = rig.sync()
        assert outcome.report.requests_spent == 1
        assert outcome.report.next_try is not None
        waits.append(outcome.report.next_try - box.now())
    assert waits == sorted(waits)
    assert waits[-1] > timedelta(hours=5)
    box.monthly_limit = None
    mend(rig)


def test_429_in_the_middle_costs_a_few_requests_and_no_more(rig: Rig) -> None:
    rig.sandbox.faults.script("beamer", [*(["ok"] * 12), *(["busy"] * 50)])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.requests_spent) == (0, 12 + outcome.report.requests_spent - 12)
    assert outcome.report.requests_spent <= 12 + 8
    assert outcome.report.next_try is not None
    assert outcome.report.next_try - rig.sandbox.now() <= timedelta(minutes=5)
    mend(rig)


def test_one_stream_that_always_fails_costs_a_dozen_requests(rig: Rig) -> None:
    rig.sandbox.faults.on(at("/comments"), ["status_500"] * 400)
    outcome = rig.sync()
    assert outcome.exit == 69
    assert outcome.report.requests["comments"] <= 16 + 4
    assert outcome.report.new["feature_request_votes"] == 11
    mend(rig)


# --- a post or a request of which no more than the id can be used ---------------------------------------


def deep() -> Any:
    inner: Any = "deep"
    for _ in range(80):
        inner = [inner]
    return inner


BROKEN: dict[str, dict[str, Any]] = {
    "no date": {"date": None},
    "no date that can be read": {"date": "yesterday"},
    "too deep": {"userCustomAttributes": deep()},
    "no date and no counters": {
        "date": None,
        **dict.fromkeys(("feedbacks", "positiveReactions", "commentsCount", "votesCount")),
    },
    "no date that is a text": {"date": {"at": "2026-02-20T00:00:00Z"}},
}


def spoil(rig: Rig, parents: set[str], fields: dict[str, Any]) -> Callable[[Request], Any]:
    """Let these posts and requests be listed with these fields."""

    def answered(request: Request) -> Any:
        answer = rig.sandbox.perform(request)
        rows = json.loads(answer.body)
        if isinstance(rows, list):
            spoilt = [{**row, **(fields if row["id"] in parents else {})} for row in rows]
            answer.body = json.dumps(spoilt).encode()
        return answer

    return answered


def lists_of_parents(request: Request) -> bool:
    return request.api == "beamer" and request.path.endswith(("/posts", "/requests"))


def below(rig: Rig, number: int, at_once: int = 25) -> list[str]:
    """Add so many posts and requests; give the oldest, the newest and one between, each with rows below."""
    box = rig.sandbox
    chosen: list[str] = []
    parents: dict[str, list[str]] = {"posts": [], "feature_requests": []}
    for index in range(number):
        date = box.now() - timedelta(days=20 - index * 18 / number)
        for stream, ids in parents.items():
            ids.append(box.world.add(stream, date=date, appears=date, **USER))
    for ids in parents.values():
        chosen += [ids[0], ids[number // 2], ids[-1]]
    for stream, ids in parents.items():
        for name in (child for child, each in CATALOGUE.items() if each.parent == stream):
            for parent in (ids[0], ids[number // 2], ids[-1]):
                for _ in range(at_once if parent == ids[0] else 2):
                    box.world.add(name, parent, **USER)
    return chosen


def arrived(rig: Rig, without: set[str]) -> None:
    """All has landed once but these posts and requests themselves."""
    due = {key for key in expected(rig.sandbox, rig.start) if key[1] not in without}
    found = landed(rig.sandbox)
    assert due <= set(found)
    assert set(found.values()) == {1}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_below_a_parent_with_no_more_than_an_id_is_read(odd: Rig, broken: str) -> None:
    chosen = below(odd, 24)
    spoilt = set(chosen)
    odd.sandbox.faults.on(lists_of_parents, [spoil(odd, spoilt, BROKEN[broken])] * 400)
    outcome = odd.sync()
    assert (outcome.exit, outcome.report.quarantined.total()) == (0, len(chosen))
    arrived(odd, spoilt)
    # What comes later, too, while nothing is doubled or taken for gone.
    for _ in range(3):
        odd.sandbox.advance(timedelta(hours=1))
        for parent in chosen:
            stream = "comments" if odd.sandbox.world.find("posts", parent) else "feature_request_votes"
            odd.sandbox.world.add(stream, parent, **USER)
        assert odd.sync().exit == 0
        arrived(odd, spoilt)
    known = progress.load(odd.database, "default", ()).parents
    assert not [parent.id for parents in known.values() for parent in parents.values() if parent.gone]
    # The rows are well again, and then a post is gone.
    odd.sandbox.faults.clear()
    odd.sandbox.advance(timedelta(hours=1))
    odd.sync()
    arrived(odd, set())
    odd.sandbox.world.delete("posts", chosen[1])
    odd.sandbox.advance(timedelta(hours=1))
    odd.sync()
    after = odd.sync()
    assert (after.exit, after.report.quarantined.total(), after.report.sent) == (0, 0, 0)
    assert progress.load(odd.database, "default", ()).parents["posts"][chosen[1]].gone
    odd.check()
    odd.close()


@pytest.mark.parametrize("broken", ["no date", "too deep", "no date and no counters"])
def test_a_parent_that_gets_a_row_without_a_date_is_still_asked_for_what_is_below(
    odd: Rig, broken: str
) -> None:
    chosen = below(odd, 12, at_once=3)
    odd.sync()
    odd.check()
    odd.sandbox.faults.on(lists_of_parents, [spoil(odd, set(chosen), BROKEN[broken])] * 400)
    for parent in chosen:
        stream = "reactions" if odd.sandbox.world.find("posts", parent) else "feature_request_comments"
        odd.sandbox.world.add(stream, parent, **USER)
    odd.sandbox.advance(timedelta(hours=1))
    odd.sync()
    odd.check()
    odd.close()


@pytest.mark.parametrize("broken", ["no date", "too deep"])
def test_a_backfill_reads_what_is_below_a_parent_with_no_more_than_an_id(odd: Rig, broken: str) -> None:
    odd.start = odd.sandbox.now() - timedelta(days=1)
    odd.days = 1
    box, ids = odd.sandbox, []
    for number in range(24):
        date = box.now() - timedelta(days=60 - number)
        ids.append(box.world.add("posts", date=date, appears=date, **USER))
        box.world.add("comments", ids[-1], date=date + timedelta(hours=1), appears=date, **USER)
    odd.sync()
    spoilt = {ids[0], ids[7], ids[23]}
    box.faults.on(lists_of_parents, [spoil(odd, spoilt, BROKEN[broken])] * 400)
    assert odd.backfill()[0].exit == 0
    due = {key for key in expected(box, box.now() - timedelta(days=90)) if key[1] not in spoilt}
    found = landed(box)
    assert due <= set(found)
    assert set(found.values()) == {1}
    odd.close()


@pytest.mark.parametrize("first", ["/nps", "/posts", "/requests"])
@pytest.mark.parametrize("limits", [None, Limits(10_000, 0, 30)])
def test_a_list_that_is_silent_from_the_first_run_on_leaves_the_others_their_turn(
    tmp_path: Path, first: str, limits: Limits | None
) -> None:
    """It was asked first in two runs, nothing was answered, and Beamer counted as away."""
    rig = Rig(small(), f"sqlite:///{tmp_path / 'state.sqlite'}", limits=limits or Limits(None, 0, 30))
    rig.sandbox.faults.on(at(first), ["hang"] * 1000)
    rig.sync()
    # Under a limit, what was read just now is not worth a request.
    rig.sandbox.advance(timedelta(hours=12))
    before = len(rig.sandbox.requests)
    assert rig.sync().exit == 69
    paths = {request.path for request in rig.sandbox.requests[before:] if request.api == "beamer"}
    assert {path.split("/")[1] for path in paths} >= {"posts", "requests", "nps"} - {first.strip("/")}
    rig.close()


@pytest.mark.parametrize("path", ["/posts", "/requests"])
def test_a_list_that_is_silent_is_cut_into_parts_by_later_runs_only(rig: Rig, path: str) -> None:
    """Eight of its parts were tried one after the other in one run, each for a whole time-out."""
    assert rig.sync().exit == 0
    rig.sandbox.faults.on(at(path), ["hang"] * 1000)
    asked = []
    for _ in range(4):
        before = len(rig.sandbox.requests)
        assert rig.sync().exit == 69
        asked.append(sum(request.path.endswith(path) for request in rig.sandbox.requests[before:]))
        rig.sandbox.advance(timedelta(days=1))
    # Each of its parts up to four times; it was 22, 36 and 58.
    assert asked[1] <= 8
    assert max(asked) <= 12
    rig.close()

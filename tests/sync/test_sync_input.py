"""Anything where a row, a page, an error or a confirmation is expected: no crash, and no other row lost."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from connector.beamer.streams import CATALOGUE
from connector.sandbox import Answer, Company, Request
from connector.state import outbox, schema
from connector.state.engine import open_database
from connector.sync.planning.audit import AuditEverything
from connector.sync.run import Run
from tests.harness import EVENT, Rig, expected, landed, sandbox
from tests.sandbox import Sandbox
from tests.state.times import NOW

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FEW = settings(
    max_examples=8,
    deadline=None,
    derandomize="CI" in os.environ,
    database=None,
    # An example is two syncs: to make it smaller takes minutes, and hardly tells more.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=30)
JSON = {"Content-Type": "application/json;charset=utf-8"}

# --- anything ------------------------------------------------------------------------------------------

LETTERS = st.text(st.characters(exclude_categories=()), max_size=12)  # also half surrogate pairs and NUL
NUMBERS = st.integers() | st.integers(-(10**400), 10**400) | st.floats()
SCALARS = st.none() | st.booleans() | NUMBERS | LETTERS
LONG = st.sampled_from(["x" * 40_000, "🙂" * 9_000, "\x00" * 9_000, "9" * 5_000])


def deep(levels: int) -> Any:
    found: Any = 1
    for level in range(levels):
        found = [found] if level % 2 else {"a": found}
    return found


DEEP = st.sampled_from([deep(60), deep(70), deep(400)])
SOME = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=6,
)
ANYTHING = SOME | SOME | DEEP | LONG

DATES = st.sampled_from(
    [
        "2026-02-20T00:00:00Z",
        "2026-02-20T00:00:00",
        "2026-02-20",
        "2026-02-20T00:00:00.123456+05:30",
        "2024-02-29T23:59:60Z",
        "2024-02-29T23:59:59Z",
        "2025-02-29T00:00:00Z",
        "2026-12-31T24:00:00Z",
        "2031-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "1000-01-01T00:00:00Z",
        "9998-12-31T23:59:59-12:00",
        "20260220T000000Z",
        "2026-W08-5",
        1771545600,
    ]
)
IDS = st.sampled_from(
    ["7", 8, "a-b_c", "-", "..", "a/b", " 9 ", "", "x" * 64, "x" * 65, 10**30, -1, 1.5, "٣"]
)
PEOPLE = st.sampled_from(["u", "", " ", "null", 0, 5, 5.0, 1e300, "x" * 5_000, "a\x00b"])
USUAL = {"id": IDS, "date": DATES, "userId": PEOPLE}
COUNTERS = ("feedbacks", "positiveReactions", "votesCount", "commentsCount", "views", "clicks")


def rows_of(stream: str) -> st.SearchStrategy[Any]:
    """Rows with the stream's own names, each of which holds anything; and things that are no rows at all."""
    names = {name for field in CATALOGUE[stream].fields.values() for name in field.names} | {*COUNTERS}
    fields = {name: USUAL.get(name, st.nothing()) | ANYTHING for name in sorted(names | {*USUAL})}
    translation = dict.fromkeys(("title", "language", "linkUrl", "permalink", "postUrl"), ANYTHING)
    fields["translations"] = st.lists(st.fixed_dictionaries({}, optional=translation), max_size=2) | ANYTHING
    rather = {"id": IDS, "date": DATES}
    kept = {name: each for name, each in fields.items() if name not in rather}
    return (
        st.fixed_dictionaries(rather, optional=kept) | st.fixed_dictionaries({}, optional=fields) | ANYTHING
    )


# --- an account and a database -----------------------------------------------------------------------------


def account() -> Sandbox:
    """A few rows of every kind."""
    box = sandbox(company=Company.empty())
    user = {"userId": "u-1"}
    for _ in range(2):
        post = box.world.add("posts")
        request = box.world.add("feature_requests", **user)
        for _ in range(2):
            for stream in ("comments", "reactions"):
                box.world.add(stream, post, **user)
            for stream in ("feature_request_comments", "feature_request_votes"):
                box.world.add(stream, request, **user)
        box.world.add("nps", feedback="Good", **user)
    return box


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is ready, to be copied: making one takes longer than a sync."""
    file = tmp_path_factory.mktemp("empty") / "state.sqlite"
    database = open_database(f"sqlite:///{file}")
    schema.ready(database, NOW)
    database.close()
    return file


@contextmanager
def rig(empty: Path) -> Iterator[Rig]:
    with TemporaryDirectory() as folder:
        shutil.copy(empty, file := Path(folder) / "state.sqlite")
        one = Rig(account(), f"sqlite:///{file}")
        yield one
        one.close()


def everything_there(one: Rig) -> None:
    """What the account really holds has landed, once; and Segment was sent nothing that it drops."""
    found = landed(one.sandbox)
    assert set(expected(one.sandbox, one.start)) <= set(found), "lost"
    assert set(found.values()) == {1}, "doubled"
    assert one.sandbox.segment.dropped == []


def mended(one: Rig) -> None:
    one.sandbox.faults.clear()
    one.sandbox.advance(7 * (one.clock.now() - one.start) / 30)  # a week: a closed account has opened again
    outcome = one.sync()
    assert (outcome.exit, outcome.report.troubles, outcome.report.waiting) == (0, [], 0)
    everything_there(one)
    assert one.sync().report.sent == 0


def is_list(stream: str) -> Callable[[Request], bool]:
    """Whether a request asks for a page of this stream."""
    parts = CATALOGUE[stream].path.split("{parent}")
    return lambda seen: (
        seen.api == "beamer"
        and seen.path.startswith(f"/v0{parts[0]}")
        and seen.path.endswith(parts[-1])
        and seen.path.count("/") == (2 if len(parts) == 1 else 4)
    )


# --- rows -----------------------------------------------------------------------------------------------


def beside(box: Sandbox, odd: list[Any], place: int) -> Callable[[Request], Answer]:
    """Put odd rows among those of a page, of one list only: at two posts one id is two rows."""
    lists: set[str] = set()

    def step(request: Request) -> Answer:
        answer = box.perform(request)
        lists.add(request.path)
        if lists != {request.path}:
            return answer
        shown = json.loads(answer.body)
        shown[place:place] = odd
        return Answer(answer.status, json.dumps(shown).encode(), dict(JSON))

    return step


def odd_rows(empty: Path, stream: str, odd: list[Any], place: int, pages: int) -> None:
    with rig(empty) as one:
        one.sandbox.faults.on(is_list(stream), [beside(one.sandbox, odd, place)] * pages)
        outcome = one.sync()
        assert outcome.exit == 0 or outcome.report.troubles
        kind = {key for key in expected(one.sandbox, one.start) if key[0] == EVENT[stream]}
        assert kind, "there are good rows"
        assert kind <= set(landed(one.sandbox)), "the rows beside it"
        mended(one)


STREAM = pytest.mark.parametrize("stream", list(CATALOGUE))


@STREAM
def test_odd_rows_cost_none_beside_them(empty: Path, stream: str) -> None:
    @FEW
    @given(st.lists(rows_of(stream), min_size=1, max_size=5), st.integers(0, 2), st.integers(1, 3))
    def check(odd: list[Any], place: int, pages: int) -> None:
        odd_rows(empty, stream, odd, place, pages)

    check()


@pytest.mark.parametrize("stream", ["comments", "feature_request_votes", "nps"])
def test_a_row_beside_others_that_can_be_used_is_one_of_them(empty: Path, stream: str) -> None:
    odd_rows(empty, stream, [{"id": "7", "date": "2026-02-20T00:00:00Z", "userId": "u"}], place=2, pages=3)


@pytest.mark.slow
@pytest.mark.long
@STREAM
def test_many_odd_rows_cost_none_beside_them(empty: Path, stream: str) -> None:
    @MANY
    @given(st.lists(rows_of(stream), min_size=1, max_size=12), st.integers(0, 2), st.integers(1, 4))
    def check(odd: list[Any], place: int, pages: int) -> None:
        odd_rows(empty, stream, odd, place, pages)

    check()


# --- pages and errors -----------------------------------------------------------------------------------

STATUSES = st.sampled_from(
    [200, 200, 200, 201, 204, 206, 304, 400, 401, 402, 403, 404, 408, 409, 418, 422, 429]
)
BODIES = ANYTHING.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=40)
CLOCKS = (
    format_datetime(NOW, usegmt=True),
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 -1400",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "",
    "soon",
    "Sun, 01 Mar 2026 00:00:00",
    "Sun, 01 Mar 2026 99:00:00 GMT",
)
WAITS = st.sampled_from(["1", "-1", "1e9", "9" * 30, "soon", "Sun, 01 Mar 2026 00:01:00 GMT"])
HEADS = st.fixed_dictionaries({}, optional={"Date": st.sampled_from(CLOCKS), "Retry-After": WAITS})
ANSWERS = st.builds(
    Answer, STATUSES | st.integers(200, 599), BODIES, HEADS.map(lambda heads: {**JSON, **heads})
).filter(lambda answer: not is_said(answer))


def parsed(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def is_said(answer: Answer) -> bool:
    """Whether it says that these are a list's rows, or that its parent is gone: a lie is not to be told."""
    page = 200 <= answer.status < 300 and isinstance(parsed(answer), list)
    return page or answer.status == 404


def given_back(answers: list[Answer]) -> list[Any]:
    """These, as steps of a fault script."""
    return [lambda _, each=each: each for each in answers]


def odd_answers(empty: Path, stream: str, answers: list[Answer], skip: int) -> None:
    with rig(empty) as one:
        one.sandbox.faults.on(is_list(stream), ["ok"] * skip + given_back(answers))
        outcome = one.sync()
        assert outcome.exit in (0, 69, 77)
        assert set(landed(one.sandbox).values()) <= {1}
        mended(one)


@STREAM
def test_odd_answers_cost_no_row(empty: Path, stream: str) -> None:
    @FEW
    @given(st.lists(ANSWERS, min_size=1, max_size=6), st.integers(0, 2))
    def check(answers: list[Answer], skip: int) -> None:
        odd_answers(empty, stream, answers, skip)

    check()


@STREAM
def test_an_empty_page_before_failures_does_not_stand_for_the_first(empty: Path, stream: str) -> None:
    """The next sync asks from the front again: not only behind the page that showed nothing."""
    odd_answers(empty, stream, [Answer(204, b"", JSON), *[Answer(346, b"1", JSON)] * 5], 0)


@pytest.mark.slow
@pytest.mark.long
@STREAM
def test_many_odd_answers_cost_no_row(empty: Path, stream: str) -> None:
    @MANY
    @given(st.lists(ANSWERS, min_size=1, max_size=12), st.integers(0, 3))
    def check(answers: list[Answer], skip: int) -> None:
        odd_answers(empty, stream, answers, skip)

    check()


@pytest.mark.parametrize("clock", CLOCKS)
@STREAM
def test_an_odd_clock_of_beamers_costs_no_row(empty: Path, stream: str, clock: str) -> None:
    with rig(empty) as one:

        def step(request: Request) -> Answer:
            answer = one.sandbox.perform(request)
            answer.headers["Date"] = clock
            return answer

        one.sandbox.faults.on(is_list(stream), [step] * 2)
        assert one.sync().exit == 0
        mended(one)


@pytest.mark.parametrize("count", [True, -1, 0, 10**6, 2**31, 2**63 - 1, 10**400, 1.5, None, "2", [], "x"])
def test_an_odd_count_costs_no_row(empty: Path, count: object) -> None:
    with rig(empty) as one:
        assert one.sync().exit == 0
        one.sandbox.advance(timedelta(days=20))
        body = json.dumps({"count": count}).encode()
        counted: list[str] = []

        def step(request: Request) -> Answer:
            counted.append(request.path)
            return Answer(200, body, dict(JSON))

        one.sandbox.faults.on(lambda request: request.path.endswith("/count"), [step] * 50)
        one.sandbox.world.add("nps", userId="u-2", feedback="New")
        planner = AuditEverything(one.clock.now())
        outcome = Run(replace(one.context(), planner=planner), command="audit").go()
        assert outcome.exit in (0, 69)
        assert counted
        mended(one)


# --- Segment's answers ----------------------------------------------------------------------------------

WORDS = st.fixed_dictionaries(
    {}, optional={"success": st.just(False) | ANYTHING, "code": ANYTHING, "message": ANYTHING}
)
SAID = (WORDS | ANYTHING).map(lambda body: json.dumps(body).encode()) | st.binary(max_size=40)


def confirms(answer: Answer) -> bool:
    """Whether it says that the batch was taken: told by a lie, the connector could not know."""
    body = parsed(answer)
    return 200 <= answer.status < 300 and isinstance(body, dict) and body.get("success") is True


SEGMENTS = st.builds(
    Answer, STATUSES | st.integers(200, 599), SAID, HEADS.map(lambda heads: {**JSON, **heads})
).filter(lambda answer: not confirms(answer))


def odd_confirmations(empty: Path, answers: list[Answer]) -> None:
    with rig(empty) as one:
        one.sandbox.faults.script("segment", given_back(answers))
        outcome = one.sync()
        report = outcome.report
        assert outcome.exit in (0, 69, 77)
        assert report.sent + report.waiting + report.refused == report.events.total()
        outbox.retry(one.database, "default", [])
        mended(one)


def test_odd_confirmations_cost_no_event(empty: Path) -> None:
    @FEW
    @given(st.lists(SEGMENTS, min_size=1, max_size=8))
    def check(answers: list[Answer]) -> None:
        odd_confirmations(empty, answers)

    check()


@pytest.mark.slow
@pytest.mark.long
def test_many_odd_confirmations_cost_no_event(empty: Path) -> None:
    @MANY
    @given(st.lists(SEGMENTS, min_size=1, max_size=60))
    def check(answers: list[Answer]) -> None:
        odd_confirmations(empty, answers)

    check()

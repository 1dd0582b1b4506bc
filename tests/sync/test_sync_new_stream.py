"""A stream that nobody has thought of, added by catalogue entries alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from connector.beamer.rows import Field, text
from connector.beamer.streams import CATALOGUE, USER, Stream
from connector.domain.state import Progress, StreamState
from connector.sandbox import Company
from connector.segment.events import EVENTS, Event, Property
from connector.segment.shaping import Naming
from connector.sync.planning.estimates import LearnedRates
from connector.sync.planning.probes import PlanInputs
from connector.sync.policy import Policy
from tests.harness import Rig, sandbox

SURVEYS = Stream("surveys", "survey", "/surveys", {"question": Field(text, ("question",))}, by_user=False)
ANSWERS = Stream(
    "survey_answers",
    "surveyanswer",
    "/surveys/{parent}/answers",
    {"text": Field(text, ("answer",)), **USER},
    parent="surveys",
    counters=("answersCount",),
)
WORDS = Property("answer", "string", "What was answered", "text", "Yes", free_text=True)
NUMBER = Property("answer_id", "string", "Id of the answer", "id", "1")
ANSWERED = Event("Survey Answered", "surveyanswer", "survey_answers", "A user answered", (WORDS, NUMBER))
ASKED = Event("Survey Published", "survey", "surveys", "A survey was published", (NUMBER,), "connection")

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Surveys(httpx.BaseTransport):
    """A Beamer with nothing but surveys."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(path := request.url.path.removeprefix("/v0"))
        date = "2026-02-20T00:00:00Z"
        if request.url.params.get("page"):
            return httpx.Response(200, json=[])
        if path == "/surveys":
            return httpx.Response(200, json=[{"id": 7, "date": date, "question": "?", "answersCount": 2}])
        assert path == "/surveys/7/answers"
        rows = [{"id": number, "date": date, "answer": f"a{number}", "userId": "u"} for number in (1, 2)]
        return httpx.Response(200, json=rows)


def test_a_stream_without_parents_or_children_learns_its_pace(tmp_path: Path) -> None:
    """Only NPS, of which texts may come later, did: any other was taken to have a row in two weeks."""
    plain = replace(CATALOGUE["nps"], name="answers", kind="answer", settles=False)
    catalogue = {plain.name: plain}
    policy = Policy(frozenset(catalogue), NOW - timedelta(days=30), Naming("dest", "acct", "default"))
    state = StreamState(0, plain.name, checked_at=NOW, recent=50.0)
    learnt = LearnedRates(PlanInputs(catalogue, policy, Progress({plain.name: state}), 1), NOW)
    assert learnt.births(plain) == pytest.approx(0.1, rel=0.3)


def test_two_entries_make_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The event catalogue is a constant of its module: an entry more, for the length of this test.
    for event in (ANSWERED, ASKED):
        monkeypatch.setitem(EVENTS, event.kind, event)
    server = Surveys()
    rig = Rig(
        sandbox(company=Company.empty()),
        f"sqlite:///{tmp_path / 'state.sqlite'}",
        streams=frozenset({"surveys", "survey_answers"}),
        catalogue={**CATALOGUE, SURVEYS.name: SURVEYS, ANSWERS.name: ANSWERS},
        transport=server,
    )
    assert rig.sync().report.sent == 3
    sent = {(m["event"], m["messageId"], m["properties"]["answer_id"]) for m in rig.sandbox.segment.messages}
    assert sent == {
        ("Survey Published", "bmr1-dest-acct-survey-0-7", "7"),
        ("Survey Answered", "bmr1-dest-acct-surveyanswer-7-1", "1"),
        ("Survey Answered", "bmr1-dest-acct-surveyanswer-7-2", "2"),
    }
    before = len(server.asked)
    assert rig.sync().report.sent == 0
    assert server.asked[before:] == ["/surveys"]
    rig.close()

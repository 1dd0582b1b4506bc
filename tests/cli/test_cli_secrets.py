"""Keys and people's words never reach an output, whatever goes wrong."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from connector.sandbox import Answer
from connector.sandbox.segment_api import body_of
from tests.cli.conftest import Make
from tests.cli.process import SMALL, Ended, Machine, made_up
from tests.sandbox import Sandbox, Step

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

COMMANDS = [
    ["check", "--send-test"],
    ["sync", "--output", "json"],
    ["sync", "--dry-run"],
    ["status"],
    ["runs", "--output", "json"],
    ["outbox", "list", "--output", "json"],
    ["outbox", "retry", "--all"],
    ["config", "show"],
    ["config", "show", "--output", "json"],
    ["db", "upgrade"],
]
PERSONAL = ("comment", "text", "feedback", "description", "userEmail", "userFirstName", "userLastName")


def personal(sandbox: Sandbox) -> Iterator[str]:
    """What people wrote and are called, as far as it is long enough to be told from a program's words."""
    for stream in ("comments", "reactions", "nps", "feature_request_comments", "feature_request_votes"):
        for row in sandbox.world.rows(stream):
            for name in PERSONAL:
                value = str(row.fields.get(name) or "")
                if len(value) > 8 or "@" in value:
                    yield value


def search(machine: Machine, ended: Ended, words: list[str]) -> None:
    said = ended.out + ended.err
    hidden = {machine.sandbox.api_key, machine.sandbox.write_key, *personal(machine.sandbox)}
    if machine.database_url and (password := make_url(machine.database_url).password):
        hidden.add(password)
    found = {each for each in hidden if each in said}
    assert not found, (words, found)
    assert "Traceback" not in ended.err, ended.err


@pytest.fixture
def careless(make: Make) -> Machine:
    sandbox = made_up(SMALL)
    sandbox.api_key, sandbox.write_key = "b_key_that_nobody_may_see", "w_key_that_nobody_may_see"
    sandbox.segment.write_keys = {sandbox.write_key}
    return make(sandbox, extra={"LOG_LEVEL": "debug"})


def test_the_search_would_find_something(careless: Machine) -> None:
    assert len(set(personal(careless.sandbox))) > 20
    careless.run("sync", "--no-deliver")
    listed = careless.run("outbox", "list", "--limit", "1000", "--output", "json").json["messages"]
    comment = next(each["message_id"] for each in listed if each["event"] == "NPS Response Sent")
    shown = careless.run("outbox", "show", comment)
    assert any(words in shown.out for words in ("userId", *personal(careless.sandbox)))


def test_nothing_is_said_when_all_is_well(careless: Machine) -> None:
    for words in COMMANDS:
        search(careless, careless.run(*words), words)


BEAMER: list[Step] = ["status_500", "truncated", "html_200", "reset_after", "busy", "html_502"]
SEGMENT: list[Step] = [("answer", 400, '{"message": "bad"}', {}), "html_200", "reset_before", 401]


def said_back(status: int) -> Step:
    """Segment quotes what it refuses."""
    return lambda request: Answer(
        status, json.dumps({"code": "bad", "message": str(body_of(request))}).encode()
    )


@pytest.mark.parametrize(("form", "status"), [("console", 400), ("json", 200)])
def test_nothing_is_said_when_things_go_wrong(careless: Machine, form: str, status: int) -> None:
    """Both APIs say back what they were told and what they know, in answers that no reference describes."""
    careless.extra["LOG_FORMAT"] = form
    sandbox = careless.sandbox
    echo = json.dumps([sandbox.write_key, sandbox.api_key, *set(personal(sandbox)), {"id": 7}])
    sandbox.faults.script("beamer", ["ok", "ok", "ok", "ok", ("answer", status, echo, {}), *BEAMER])
    sandbox.faults.script("segment", [said_back(400), *SEGMENT, said_back(400), said_back(403)])
    for words in COMMANDS[:6]:
        search(careless, careless.run(*words), words)


def test_rows_of_odd_types_are_not_shown(careless: Machine) -> None:
    sent = [
        {"id": str(n), "date": {"a": careless.sandbox.api_key}, "score": [["x@example.org"]]} for n in (1, 2)
    ]
    body = str(sent).replace("'", '"')
    careless.sandbox.faults.script("beamer", [("answer", 200, body, {})] * 3)
    search(careless, ended := careless.run("sync", "--output", "json"), ["sync"])
    assert "x@example.org" not in ended.out + ended.err

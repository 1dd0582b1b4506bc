"""Each fault in process."""

from typing import Any

import httpx
import pytest
import requests
from segment.analytics.request import APIError

from connector.sandbox import Answer, Company, Request
from tests.sandbox import Faults, Sandbox

MESSAGE = {"type": "track", "event": "E", "userId": "u", "messageId": "m"}


def opened(**faults: Any) -> tuple[Sandbox, httpx.Client]:
    sandbox = Sandbox(Company.empty(), faults=Faults(**faults))
    sandbox.world.add("nps")
    return sandbox, httpx.Client(
        transport=sandbox.beamer_transport(),
        base_url="https://any/v0",
        headers={"Beamer-Api-Key": sandbox.api_key},
    )


def test_a_script_is_used_up_step_by_step() -> None:
    sandbox, api = opened()
    sandbox.faults.script(
        "beamer", ["ok", 500, "html_502", "html_200", ("busy", 2), ("answer", 418, "[]", {"X": "y"})]
    )
    answers = [api.get("/nps") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200, 500, 502, 200, 429, 429, 418, 200]
    assert answers[2].text.startswith("<html>")
    assert answers[3].headers["content-type"].startswith("text/html")
    assert (answers[6].text, answers[6].headers["x"]) == ("[]", "y")
    assert isinstance(answers[1].json(), str)


def test_charges_follow_the_work() -> None:
    sandbox, api = opened()
    sandbox.faults.script("beamer", ["reset_before", "html_502", "redirect", 500, "reset_after"])
    for _ in range(5):
        try:
            api.get("/nps")
        except httpx.ReadError:
            continue
    assert [seen.status for seen in sandbox.requests] == [0, 502, 302, 500, 200]
    assert sandbox.spent == 2


def test_truncated_json() -> None:
    sandbox, api = opened()
    sandbox.faults.script("beamer", ["truncated"])
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        api.get("/nps").json()


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("reset_before", httpx.ReadError),
        ("reset_after", httpx.ReadError),
        ("hang", httpx.ReadTimeout),
        ("hang_before", httpx.ReadTimeout),
        ("trickle", httpx.ReadTimeout),
    ],
)
def test_mishaps_are_httpx_errors(step: str, error: type[Exception]) -> None:
    sandbox, api = opened()
    sandbox.faults.script("beamer", [step])
    with pytest.raises(error):
        api.get("/nps")


@pytest.mark.parametrize(
    ("step", "error", "landed"),
    [
        ("reset_before", requests.ConnectionError, 0),
        ("reset_after", requests.ConnectionError, 1),
        ("hang", requests.ReadTimeout, 1),
        ("hang_before", requests.ReadTimeout, 0),
        (503, APIError, 0),
        ("busy", APIError, 0),
    ],
)
def test_segment_before_and_after_the_work(step: str | int, error: type[Exception], landed: int) -> None:
    sandbox, _ = opened()
    sandbox.faults.script("segment", [step])
    with pytest.raises(error):
        sandbox.segment_post(sandbox.write_key, batch=[MESSAGE])
    assert len(sandbox.segment.messages) == landed


def test_a_redirecting_proxy_looks_like_a_delivery() -> None:
    sandbox, api = opened()
    sandbox.faults.script("segment", ["redirect"])
    answer = sandbox.segment_post(sandbox.write_key, batch=[MESSAGE])
    assert (answer.status_code, [step.status_code for step in answer.history]) == (200, [302])
    assert sandbox.segment.received == []
    sandbox.faults.script("beamer", ["redirect"])
    assert api.get("/nps", follow_redirects=True).json() == []


def test_chosen_requests_only() -> None:
    sandbox, api = opened()
    sandbox.faults.on(lambda request: request.path.endswith("/count"), [500])
    assert [api.get(path).status_code for path in ("/nps", "/nps/count", "/nps/count")] == [200, 500, 200]


def test_a_step_may_meddle_between_pages() -> None:
    sandbox, api = opened()

    def delete(_: Request) -> Answer | None:
        sandbox.world.delete("nps", sandbox.world.rows("nps")[0].id)
        return None

    sandbox.faults.script("beamer", ["ok", delete])
    assert [len(api.get("/nps").json()) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("name", ["status_500", "html_502", "html_200", "truncated", "redirect", "busy"])
def test_chances_are_seeded(name: str) -> None:
    runs = []
    for _ in range(2):
        _, api = opened(**{name: 0.3})
        runs.append([(answer.status_code, answer.text) for answer in (api.get("/nps") for _ in range(60))])
    assert runs[0] == runs[1]
    assert 5 < sum(answer != runs[0][0] for answer in runs[0]) < 60 or len(set(runs[0])) == 2


def test_bursts_of_429() -> None:
    sandbox, api = opened(busy=0.02, busy_for=4)
    statuses = "".join("x" if api.get("/nps").status_code == 429 else "." for _ in range(200))
    assert "xxxx" in statuses
    sandbox.faults.clear()
    assert {api.get("/nps").status_code for _ in range(20)} == {200}


def test_latency_passes_by_the_given_sleep() -> None:
    slept: list[float] = []
    sandbox, api = opened(latency=0.25, sleep=slept.append, apis=("beamer",))
    api.get("/nps")
    sandbox.segment_post(sandbox.write_key, batch=[MESSAGE])
    sandbox.faults.latency = (0.1, 0.2)
    api.get("/nps")
    sandbox.faults.script("beamer", [("latency", 3)])
    api.get("/nps")
    assert slept[0] == 0.25
    assert 0.1 <= slept[1] <= 0.2
    assert slept[2:] == [3.0]


def test_unknown_steps_are_refused() -> None:
    sandbox, api = opened()
    sandbox.faults.script("beamer", ["explode"])
    with pytest.raises(ValueError, match="explode"):
        api.get("/nps")

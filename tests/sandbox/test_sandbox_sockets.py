"""Both APIs over real sockets."""

import ssl
from collections.abc import Iterator

import httpx
import pytest
import requests
from segment.analytics import request as library

from connector.sandbox import Company, Served
from tests.sandbox import Sandbox

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading all the authorities takes a while
MESSAGE = {"type": "track", "event": "E", "userId": "u", "messageId": "m"}


@pytest.fixture
def sandbox() -> Sandbox:
    sandbox = Sandbox(Company.empty())
    sandbox.world.add("nps", feedback="שלום 🙂")
    return sandbox


@pytest.fixture
def served(sandbox: Sandbox) -> Iterator[Served]:
    with sandbox.serve() as served:
        yield served


@pytest.fixture
def api(sandbox: Sandbox, served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=served.beamer_url, headers={"Beamer-Api-Key": sandbox.api_key}, verify=NO_TLS
    ) as client:
        yield client


def test_a_connection_is_kept_alive(api: httpx.Client) -> None:
    ports = set()
    for _ in range(5):
        with api.stream("GET", "/nps") as answer:
            answer.read()
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            assert answer.http_version == "HTTP/1.1"
            assert answer.json()[0]["feedback"] == "שלום 🙂"
    assert len(ports) == 1


def test_dates_are_the_sandbox_s_own(api: httpx.Client) -> None:
    assert api.get("/nps").headers.get_list("date") == ["Sun, 01 Mar 2026 00:00:00 GMT"]


def test_thirty_a_second_even_when_time_stands_still(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.switches.rate_limit = 3
    assert [api.get("/nps").status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("gzip", [False, True])
def test_the_official_library_delivers(sandbox: Sandbox, served: Served, gzip: bool) -> None:
    answer = library.post(sandbox.write_key, served.segment_url, gzip=gzip, batch=[MESSAGE])
    assert answer.json() == {"success": True}
    assert [message["messageId"] for message in sandbox.segment.messages] == ["m"]
    library._session.close()


def test_the_official_library_follows_a_redirect(
    sandbox: Sandbox, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the library comes: in this process it may send by the connector's own client by now.
    monkeypatch.setattr(library, "_session", requests.Session())
    sandbox.faults.script("segment", ["redirect"])
    answer = library.post(sandbox.write_key, served.segment_url, batch=[MESSAGE])
    assert ([step.status_code for step in answer.history], sandbox.segment.received) == ([302], [])
    library._session.close()


@pytest.mark.parametrize("step", ["reset_before", "reset_after"])
def test_resets(sandbox: Sandbox, api: httpx.Client, step: str) -> None:
    sandbox.faults.script("beamer", [step])
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        api.get("/nps")
    assert api.get("/nps").status_code == 200


@pytest.mark.parametrize("step", ["hang", "trickle"])
def test_answers_that_do_not_end(sandbox: Sandbox, api: httpx.Client, step: str) -> None:
    sandbox.faults.script("beamer", [step])
    with pytest.raises(httpx.ReadTimeout):
        api.get("/nps", timeout=0.05)
    assert sandbox.spent == 1
    assert api.get("/nps").status_code == 200


def test_a_trickle_ends_at_last(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults.trickle_seconds = 0
    sandbox.faults.script("beamer", ["trickle"])
    assert len(api.get("/nps").json()) == 1


def test_other_methods_are_answered(api: httpx.Client) -> None:
    assert [api.request(method, "/nps").status_code for method in ("PUT", "DELETE", "PATCH")] == [405] * 3
    assert api.head("/nps").status_code == 405
    assert api.post("/ping").json() == {"name": "Sandbox"}


def test_close_ends_what_is_open(sandbox: Sandbox) -> None:
    served = sandbox.serve()
    with httpx.Client(
        base_url=served.beamer_url, headers={"Beamer-Api-Key": sandbox.api_key}, verify=NO_TLS
    ) as client:
        client.get("/nps")
        served.close()
        with pytest.raises(httpx.TransportError):
            client.get("/nps")

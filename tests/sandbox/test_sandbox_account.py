"""Keys, plans, requests a second, requests a month."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from connector.sandbox import Company, Switches, environment
from tests.sandbox import Sandbox


def client(sandbox: Sandbox, key: str = "sandbox-key") -> httpx.Client:
    return httpx.Client(
        transport=sandbox.beamer_transport(), base_url="https://any/v0", headers={"Beamer-Api-Key": key}
    )


def test_keys() -> None:
    sandbox = Sandbox(Company.empty())
    refused = client(sandbox, "another").get("/nps")
    assert (refused.status_code, refused.json()) == (401, "The API key is invalid.")
    bare = httpx.Client(transport=sandbox.beamer_transport(), base_url="https://any")
    assert bare.get("/nps").status_code == 401
    assert bare.get("/nps", headers={"Authorization": "Bearer sandbox-key"}).status_code == 401
    assert sandbox.spent == 0
    sandbox.api_key = "another"
    assert client(sandbox, "another").get("/nps").status_code == 200


@pytest.mark.parametrize(
    ("path", "params", "needed"),
    [
        ("/users", {}, "scale"),
        ("/posts", {"filterByUserId": "true"}, "scale"),
        ("/posts", {"filter": "admins"}, "pro"),
        ("/requests", {"filters": "admins"}, "pro"),
        ("/posts", {"expired": "true"}, "starter"),
        ("/posts/count", {"language": "EN"}, "starter"),
        ("/posts", {"language": "EN"}, "free"),
    ],
)
def test_plans(path: str, params: dict[str, str], needed: str) -> None:
    ladder = ("free", "starter", "pro", "scale")
    for plan in ladder:
        status = client(Sandbox(Company.empty(), plan=plan)).get(path, params=params).status_code
        assert status == (200 if ladder.index(plan) >= ladder.index(needed) else 403)


def test_unknown_plans_are_named() -> None:
    with pytest.raises(ValueError, match="Unknown plan 'gold'"):
        Sandbox(Company.empty(), plan="gold")


def test_the_month_ends_and_turns() -> None:
    sandbox = Sandbox(Company.empty(), plan="free", now=datetime(2026, 3, 30, tzinfo=UTC))
    sandbox.monthly_used = 998
    api = client(sandbox)
    assert [api.get("/nps").status_code for _ in range(3)] == [200, 200, 429]
    assert "monthly requests limit" in api.get("/nps").json()
    assert (sandbox.spent, sandbox.monthly_used) == (2, 1000)
    sandbox.advance(timedelta(days=2))
    assert (api.get("/nps").status_code, sandbox.spent) == (200, 1)


def test_the_month_may_begin_on_another_day() -> None:
    sandbox = Sandbox(
        Company.empty(), now=datetime(2026, 1, 14, tzinfo=UTC), switches=Switches(billing_day=15)
    )
    client(sandbox).get("/nps")
    assert sandbox.spent == 1
    sandbox.advance(timedelta(days=1))
    assert sandbox.spent == 0


def test_errors_may_be_free() -> None:
    sandbox = Sandbox(Company.empty())
    client(sandbox).get("/posts/9/comments")
    assert sandbox.spent == 1
    sandbox.switches.errors_count = False
    client(sandbox).get("/posts/9/comments")
    assert sandbox.spent == 1


def test_thirty_a_second_by_whatever_clock() -> None:
    tick = [100.0]
    sandbox = Sandbox(Company.empty(), limiter_clock=lambda: tick[0])
    api = client(sandbox)
    assert [api.get("/nps").status_code for _ in range(32)] == [200] * 30 + [429] * 2
    assert "monthly" not in api.get("/nps").json()
    tick[0] += 1
    assert api.get("/nps").status_code == 200
    assert sandbox.spent == 31


def test_time_that_stands_still_limits_nobody() -> None:
    sandbox = Sandbox(Company.empty())
    api = client(sandbox)
    assert {api.get("/nps").status_code for _ in range(50)} == {200}


def test_the_log_and_the_date_header() -> None:
    sandbox = Sandbox(Company.empty())
    answer = client(sandbox).get("/nps", params={"maxResults": 3})
    assert answer.headers["date"] == "Sun, 01 Mar 2026 00:00:00 GMT"
    seen = sandbox.requests[-1]
    assert (seen.at, seen.api, seen.method) == (sandbox.now(), "beamer", "GET")
    assert (seen.path, seen.params, seen.status) == ("/nps", {"maxResults": "3"}, 200)


def test_environment_names_all_a_shell_needs() -> None:
    sandbox = Sandbox(Company.empty(), plan="free")
    with sandbox.serve() as served:
        settings = environment(served, sandbox)
    assert settings["BEAMER_BASE_URL"] == served.beamer_url
    assert settings["SEGMENT_HOST"] == served.segment_url
    assert (settings["BEAMER_API_KEY"], settings["SEGMENT_WRITE_KEY"]) == ("sandbox-key", "sandbox-write-key")
    assert settings["BEAMER_PLAN"] == "free"

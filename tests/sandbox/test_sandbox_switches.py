"""Each unknown of the API, both ways."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connector.sandbox import Company, Switches
from tests.sandbox import Sandbox

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def opened(**switches: Any) -> tuple[Sandbox, httpx.Client]:
    sandbox = Sandbox(Company.empty(), switches=Switches(**switches))
    transport = sandbox.beamer_transport()
    return sandbox, httpx.Client(
        transport=transport, base_url="https://any/v0", headers={"Beamer-Api-Key": sandbox.api_key}
    )


def with_comments(count: int, **switches: Any) -> tuple[Sandbox, httpx.Client, str]:
    sandbox, api = opened(**switches)
    post = sandbox.world.add("posts")
    for n in range(count):
        sandbox.world.add("comments", post, date=NOW - timedelta(hours=n), text=f"c{n}")
    return sandbox, api, f"/posts/{post}/comments"


def texts(api: httpx.Client, path: str, **params: Any) -> list[str]:
    return [row["text"] for row in api.get(path, params=params).json()]


def test_first_page_may_be_one() -> None:
    _, api, path = with_comments(15, first_page=1)
    assert texts(api, path) == texts(api, path, page=0) == texts(api, path, page=1)
    assert texts(api, path, page=2) == [f"c{n}" for n in range(10, 15)]


def test_order() -> None:
    sandbox, api, path = with_comments(15, order="oldest")
    assert texts(api, path)[0] == "c14"
    sandbox.switches.order = "unordered"
    found = texts(api, path) + texts(api, path, page=1)
    assert found == texts(api, path) + texts(api, path, page=1)
    assert sorted(found) == sorted(f"c{n}" for n in range(15))
    assert found not in (sorted(found), [f"c{n}" for n in range(15)], [f"c{n}" for n in range(14, -1, -1)])


def test_pinned_first() -> None:
    sandbox, api = opened(pinned_first=True)
    pinned = sandbox.world.add("posts", pinned="true", date=NOW - timedelta(days=5))
    newest = sandbox.world.add("posts")
    assert [row["id"] for row in api.get("/posts").json()] == [pinned, newest]
    sandbox.switches.pinned_first = False
    assert [row["id"] for row in api.get("/posts").json()] == [newest, pinned]


def test_bounds_may_be_exclusive() -> None:
    sandbox, api, path = with_comments(3)
    window = {"dateFrom": "2026-02-28T22:00:00Z", "dateTo": "2026-02-28T23:00:00Z"}
    assert texts(api, path, **window) == ["c1", "c2"]
    sandbox.switches.date_from_inclusive = False
    assert texts(api, path, **window) == ["c1"]
    sandbox.switches.date_to_inclusive = False
    assert texts(api, path, **window) == []
    assert texts(api, path)[0] == "c0", "without dateTo nothing is cut off"


def test_counters_may_lag_and_ignore_deletions() -> None:
    sandbox, api, path = with_comments(3, counters_lag=timedelta(hours=1))

    def feedbacks() -> str:
        return str(api.get("/posts").json()[0]["feedbacks"])

    assert feedbacks() == "0"
    sandbox.advance(timedelta(hours=1))
    assert feedbacks() == "3"
    sandbox.switches.counters_lag = timedelta(0)
    sandbox.world.delete("comments", sandbox.world.rows("comments")[0].id)
    assert (feedbacks(), len(texts(api, path))) == ("2", 2)
    sandbox.switches.counters_ignore_deletions = True
    assert feedbacks() == "3"


def test_filters_after_the_page_leave_short_pages_in_the_middle() -> None:
    sandbox, api, path = with_comments(25, filters_after_page=True)
    for row in sandbox.world.rows("comments")[3:6]:
        sandbox.world.set("comments", row.id, hidden=True)
    assert [len(texts(api, path, page=page)) for page in range(3)] == [7, 10, 5]
    sandbox.switches.filters_after_page = False
    assert [len(texts(api, path, page=page)) for page in range(3)] == [10, 10, 2]


def test_counts_may_include_what_lists_hide() -> None:
    sandbox, api = opened(unfiltered_count=True)
    sandbox.world.add("posts", filter="admins")
    assert (api.get("/posts/count").json(), api.get("/posts").json()) == ({"count": 1}, [])


def test_types_may_be_native() -> None:
    sandbox, api = opened(native_types=True)
    sandbox.world.add("posts")
    sandbox.world.add("nps")
    post = api.get("/posts").json()[0]
    assert isinstance(post["id"], int)
    assert post["published"] is True
    assert post["views"] == 0
    assert isinstance(api.get("/nps").json()[0]["id"], str)


def test_an_nps_text_may_come_later() -> None:
    sandbox = Sandbox(Company(activity=4.0, days=3), switches=Switches(nps_text_later=True))
    sandbox.advance(timedelta(days=1))
    late = next(
        row
        for row in reversed(sandbox.world.rows("nps"))
        if row.text_s > row.appears_s and row.fields["feedback"]
    )
    again = Sandbox(Company(activity=4.0, days=3), switches=sandbox.switches)
    again.advance(late.appears - again.now())
    api = httpx.Client(
        transport=again.beamer_transport(),
        base_url="https://any/v0",
        headers={"Beamer-Api-Key": again.api_key},
    )

    def feedback() -> str:
        return next(str(row["feedback"]) for row in api.get("/nps").json() if row["id"] == late.id)

    assert feedback() == ""
    again.advance(timedelta(minutes=10))
    assert feedback() == late.fields["feedback"]


def test_unknown_parameters_may_be_let_through() -> None:
    _, api = opened(strict_parameters=False)
    assert api.get("/nps", params={"colour": "red"}).status_code == 200


def test_permissions() -> None:
    sandbox, api = opened(ignore_filters_allowed=False)
    assert api.get("/posts", params={"ignoreFilters": "true"}).status_code == 403
    assert api.get("/posts", params={"ignoreFilters": "false"}).status_code == 200
    sandbox.switches.may_read.discard("nps")
    assert api.get("/nps").status_code == 403
    assert api.get("/posts").status_code == 200

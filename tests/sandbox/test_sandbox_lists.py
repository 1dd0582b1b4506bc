"""Pages, dates, caps, filters and views."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from connector.sandbox import Company, Switches
from tests.sandbox import Sandbox

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def client(sandbox: Sandbox) -> httpx.Client:
    return httpx.Client(
        transport=sandbox.beamer_transport(),
        base_url="https://any/v0",
        headers={"Beamer-Api-Key": sandbox.api_key},
    )


def by_hand(**switches: Any) -> tuple[Sandbox, httpx.Client, str]:
    """One post with 25 comments, an hour apart, the newest now."""
    sandbox = Sandbox(Company.empty(), switches=Switches(**switches))
    post = sandbox.world.add("posts", date=NOW - timedelta(days=9))
    for hours in range(25):
        sandbox.world.add("comments", post, date=NOW - timedelta(hours=hours), text=f"c{hours}")
    return sandbox, client(sandbox), f"/posts/{post}/comments"


def texts(api: httpx.Client, path: str, **params: Any) -> list[str]:
    answer = api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [row["text"] for row in answer.json()]


def names(*hours: int) -> list[str]:
    return [f"c{hour}" for hour in hours]


def test_newest_first_in_pages_of_ten() -> None:
    _, api, path = by_hand()
    assert texts(api, path) == texts(api, path, page=0) == names(*range(10))
    assert texts(api, path, page=1) == names(*range(10, 20))
    assert texts(api, path, page=2) == names(*range(20, 25))
    assert texts(api, path, page=3) == []
    assert texts(api, path, maxResults=50) == names(*range(10))
    assert texts(api, path, maxResults=4, page=1) == names(4, 5, 6, 7)


def test_nps_pages_hold_a_hundred() -> None:
    sandbox = Sandbox()
    rows = client(sandbox).get("/nps", params={"maxResults": 500}).json()
    assert len(rows) == 100
    assert [row["date"] for row in rows] == sorted((row["date"] for row in rows), reverse=True)


def test_dates_bound_a_list_at_both_ends() -> None:
    _, api, path = by_hand()
    window = {"dateFrom": "2026-02-28T20:00:00Z", "dateTo": "2026-02-28T22:00:00Z"}
    assert texts(api, path, **window) == names(2, 3, 4)
    assert api.get(f"{path}/count", params=window).json() == {"count": 3}
    assert texts(api, path, dateFrom="2026-02-28T23:00:00") == names(0, 1)
    assert texts(api, path, dateFrom="2026-03-01T01:00:00+02:00") == names(0, 1)


@pytest.mark.parametrize(
    "params",
    [
        {"dateFrom": "yesterday"},
        {"dateTo": ""},
        {"page": "-1"},
        {"page": "x"},
        {"maxResults": "0"},
        {"colour": "red"},
    ],
)
def test_bad_parameters_are_400(params: dict[str, str]) -> None:
    _, api, path = by_hand()
    answer = api.get(path, params=params)
    assert answer.status_code == 400
    assert isinstance(answer.json(), str)
    assert answer.headers["content-type"] == "application/json;charset=utf-8"


def test_unknown_parent_path_and_method() -> None:
    sandbox, api, path = by_hand()
    assert api.get("/posts/999/comments").status_code == 404
    assert api.get("/posts/abc/comments").status_code == 400
    assert api.get("/nowhere").status_code == 404
    assert api.delete(path).status_code == 405
    assert api.get("/ping").status_code == 405
    sandbox.world.delete("posts", path.split("/")[2])
    assert api.get(path).status_code == 404


def test_scheduled_posts_show_only_with_a_later_date_to() -> None:
    sandbox = Sandbox(Company.empty())
    sandbox.world.add("posts", date=NOW + timedelta(days=2))
    api = client(sandbox)
    assert api.get("/posts").json() == []
    assert len(api.get("/posts", params={"dateTo": "2026-04-01T00:00:00Z"}).json()) == 1
    sandbox.advance(timedelta(days=3))
    assert len(api.get("/posts").json()) == 1


def test_segmented_posts_are_hidden_unless_filters_are_ignored() -> None:
    sandbox = Sandbox(Company.empty())
    sandbox.world.add("posts")
    sandbox.world.add("posts", filter="admins;beta")
    api = client(sandbox)
    assert len(api.get("/posts").json()) == 1
    assert len(api.get("/posts", params={"ignoreFilters": "true"}).json()) == 2
    assert len(api.get("/posts", params={"filter": "beta"}).json()) == 2
    assert len(api.get("/posts", params={"forceFilter": "beta"}).json()) == 1
    assert api.get("/posts/count").json() == {"count": 1}


def test_filters_of_lists() -> None:
    sandbox = Sandbox(Company.empty())
    post = sandbox.world.add("posts", published="false", dueDate="2026-02-01T00:00:00Z")
    sandbox.world.add("reactions", post, reaction="negative")
    sandbox.world.add("nps", score=3, feedback="Slow")
    sandbox.world.add("feature_requests", visible="false", status="planned")
    api = client(sandbox)
    for path, yes, no in (
        ("/posts", {"published": "false"}, {"published": "true"}),
        ("/posts", {"expired": "true"}, {"expired": "false"}),
        (f"/posts/{post}/reactions", {"reaction": "negative"}, {"reaction": "positive"}),
        ("/nps", {"scoreTo": "3", "search": "slow"}, {"scoreFrom": "4"}),
        ("/requests", {"visible": "false", "status": "planned"}, {"visible": "true"}),
    ):
        assert len(api.get(path, params=yes).json()) == 1
        assert api.get(path, params=no).json() == []


def views(sandbox: Sandbox) -> tuple[str, str]:
    row = client(sandbox).get("/posts", params={"saveViews": "false"}).json()[0]
    return row["views"], row["uniqueViews"]


def test_reading_counts_as_a_view_unless_told_otherwise() -> None:
    sandbox = Sandbox(Company.empty())
    post = sandbox.world.add("posts")
    api = client(sandbox)
    assert views(sandbox) == views(sandbox) == ("0", "0")
    api.get("/posts")
    assert views(sandbox) == ("1", "1")
    api.get(f"/posts/{post}")
    assert views(sandbox) == ("2", "2")
    assert sandbox.world.views_counted == 2


def test_a_row_by_id() -> None:
    sandbox, api, path = by_hand()
    comment = sandbox.world.rows("comments")[0].id
    assert api.get(f"{path}/{comment}").json()["text"] == "c0"
    assert api.get(f"{path}/1").status_code == 404


def test_rows_of_hundreds_of_thousands_are_paged_without_a_scan() -> None:
    sandbox = Sandbox(Company.empty())
    post = sandbox.world.add("posts")
    for second in range(3000):
        sandbox.world.add("comments", post, date=NOW - timedelta(seconds=second))
    written = [row for row in sandbox.world.rows("comments") if row.content is not None]
    client(sandbox).get(f"/posts/{post}/comments", params={"page": 200})
    checked_at = [row for row in sandbox.world.rows("comments") if row.content is not None]
    assert (len(written), len(checked_at)) == (0, 10)

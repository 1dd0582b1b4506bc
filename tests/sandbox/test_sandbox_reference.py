"""Fields and types of every list are those of the reference's example bodies."""

from typing import Any

import httpx
import pytest

from connector.sandbox import Company
from tests.sandbox import Sandbox


def strings(names: str) -> dict[str, type]:
    return dict.fromkeys(names.split(), str)


USER = {"userId": str, "userEmail": str, "userFirstName": str, "userLastName": str}
ATTRIBUTES = {"userCustomAttributes": dict}
TEAM = {"internalUserEmail": str, "internalUserFirstname": str, "internalUserLastname": str}
EXAMPLES: dict[str, dict[str, type]] = {
    "/posts": {
        **strings(
            "id date dueDate published pinned showInWidget showInStandalone category "
            "boostedAnnouncement filter filterUrl autoOpen editionDate feedbackEnabled "
            "reactionsEnabled views uniqueViews clicks feedbacks positiveReactions "
            "neutralReactions negativeReactions"
        ),
        "translations": list,
    },
    "/posts/{post}/comments": {
        **strings("id date text postTitle url"),
        **USER,
        **ATTRIBUTES,
    },
    "/posts/{post}/reactions": {
        **strings("id date reaction postTitle url"),
        **USER,
        **ATTRIBUTES,
    },
    "/requests": {
        **strings("id date visible category status commentsCount notes filters"),
        **strings("userId userEmail userFirstname userLastname"),
        "translations": list,
        "votesCount": int,
        **TEAM,
        **ATTRIBUTES,
    },
    "/requests/{request}/comments": {
        **strings("id date visible actionComment text featureRequestTitle parentComment url"),
        **TEAM,
        **USER,
        **ATTRIBUTES,
    },
    "/requests/{request}/votes": {
        **strings("id date featureRequestTitle url"),
        **USER,
        **ATTRIBUTES,
    },
    "/nps": {**strings("id date feedback refUrl url"), "score": int, **USER},
    "/users": {
        **strings(
            "beamerId language filter firstSeen lastSeen ip browser os city country latitude longitude"
        ),
        **USER,
    },
}
TRANSLATIONS = {
    "/posts": {"title", "content", "contentHtml", "language", "category", "linkUrl", "linkText", "images"},
    "/requests": {"title", "content", "contentHtml", "language", "permalink", "images"},
}


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(Company(posts=60, requests=30, days=60, activity=1.5), plan="scale")


@pytest.fixture(scope="module")
def api(sandbox: Sandbox) -> httpx.Client:
    return httpx.Client(
        transport=sandbox.beamer_transport(),
        base_url="https://any/v0",
        headers={"Beamer-Api-Key": sandbox.api_key},
    )


def everything(api: httpx.Client, path: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    rows: list[dict[str, Any]] = []
    extra = {"saveViews": "false", "ignoreFilters": "true"} if path == "/posts" else {}
    for page in range(60):
        answer = api.get(path, params={**extra, "page": str(page)})
        assert answer.status_code == 200, answer.text
        rows += answer.json()
        if not answer.json():
            break
    return rows


def paths_of(sandbox: Sandbox, template: str) -> list[str]:
    posts = [row.id for row in sandbox.world.rows("posts")]
    requests = [row.id for row in sandbox.world.rows("feature_requests")]
    if "{post}" in template:
        return [template.replace("{post}", post) for post in posts]
    return [template.replace("{request}", request) for request in requests] if "{" in template else [template]


@pytest.mark.parametrize("template", EXAMPLES)
def test_fields_and_types_are_those_of_the_example(
    sandbox: Sandbox, api: httpx.Client, template: str
) -> None:
    rows = [row for path in paths_of(sandbox, template) for row in everything(api, path)]
    assert {name for row in rows for name in row} == set(EXAMPLES[template])
    for row in rows:
        wrong = {
            name: value for name, value in row.items() if not isinstance(value, EXAMPLES[template][name])
        }
        assert set(wrong) <= {"userId"}, "only a userId may be null"
    for row in rows if template in TRANSLATIONS else ():
        assert all(set(part) == TRANSLATIONS[template] for part in row["translations"])


def test_ids_are_digits_and_24_hex_digits_for_nps(sandbox: Sandbox) -> None:
    for row in sandbox.world.rows("nps"):
        assert len(row.id) == 24
        int(row.id, 16)
    for stream in ("posts", "comments", "reactions", "feature_requests", "feature_request_votes"):
        assert all(row.id.isdigit() for row in sandbox.world.rows(stream))


def test_ping_and_counts(sandbox: Sandbox, api: httpx.Client) -> None:
    assert isinstance(api.post("/ping").json()["name"], str)
    assert api.get("/nps/count").json() == {"count": len(sandbox.world.rows("nps"))}
    request = sandbox.world.rows("feature_requests")[0].id
    for kind in ("comments", "votes"):
        shown = len(everything(api, f"/requests/{request}/{kind}"))
        assert api.get(f"/requests/{request}/{kind}/count").json() == {"count": shown}


def test_counters_agree_with_the_lists(sandbox: Sandbox, api: httpx.Client) -> None:
    for post in everything(api, "/posts")[:12]:
        reactions = everything(api, f"/posts/{post['id']}/reactions")
        for mood in ("positive", "neutral", "negative"):
            assert post[f"{mood}Reactions"] == str(sum(row["reaction"] == mood for row in reactions))
        assert post["feedbacks"] == str(len(everything(api, f"/posts/{post['id']}/comments")))
    for request in everything(api, "/requests")[:6]:
        assert request["votesCount"] == len(everything(api, f"/requests/{request['id']}/votes"))
        assert request["commentsCount"] == str(len(everything(api, f"/requests/{request['id']}/comments")))


def test_the_company_is_as_untidy_as_a_real_one(sandbox: Sandbox) -> None:
    comments = sandbox.world.rows("comments")
    without = [row for row in comments if row.fields.get("userId") in (None, "", "undefined")]
    assert 0.08 < len(without) / len(comments) < 0.22
    assert {repr(row.fields.get("userId", "missing")) for row in without} == {
        "'missing'",
        "None",
        "''",
        "'undefined'",
    }
    emails = [row.fields["userEmail"] for row in comments if "userEmail" in row.fields]
    assert emails
    assert all(email.endswith(".example") for email in emails)
    posts = [row.fields for row in sandbox.world.rows("posts")]
    assert any(len(post["translations"]) > 1 for post in posts)
    assert any(post["pinned"] == "true" for post in posts)
    assert any(post["published"] == "false" for post in posts)
    said = [row.fields for row in sandbox.world.rows("feature_request_comments")]
    assert any(row["visible"] == "false" for row in said)
    assert any(row["actionComment"] == "true" for row in said)
    assert any("parentComment" in row and "featureRequestTitle" not in row for row in said)
    assert any("internalUserEmail" in row for row in said)

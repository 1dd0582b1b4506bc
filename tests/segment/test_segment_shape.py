from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import __version__
from connector.segment.events import EVENTS, markdown_table
from connector.segment.shaping import Fact, Naming, Privacy, message_id, shape, user_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DATE = datetime(2018, 12, 31, tzinfo=UTC)
NAMING = Naming("dest", "acct", "default")
PERSON: dict[str, Any] = {
    "user_id": "42",
    "email": "Jane@Example.com",
    "first_name": "Jane",
    "last_name": "Doe",
    "attributes": {"plan": "pro", "age": 33, "secret": "x"},
}


def fact(kind: str = "comment", change: int = 0, parent: str = "7", **fields: Any) -> Fact:
    return Fact(kind, "1234", parent, DATE, {"user_id": "42"} | fields, change)


def properties(given: Fact, privacy: Privacy | None = None) -> dict[str, Any]:
    found: dict[str, Any] = shape(given, NAMING, privacy or Privacy(), NOW).body["properties"]
    return found


GOLDEN: list[tuple[Fact, dict[str, Any]]] = [
    (
        fact(title="News", text="Hi", url="https://b.example/c"),
        {
            "post": "News",
            "comment": "Hi",
            "post_id": "7",
            "comment_id": "1234",
            "beamer_url": "https://b.example/c",
        },
    ),
    (
        fact("reaction", reaction="positive"),
        {"post": None, "reaction": "positive", "post_id": "7", "reaction_id": "1234"},
    ),
    (
        fact("nps", parent="0", score="9", text="", ref_url="https://a.example/x?t=1#f"),
        {"score": 9, "comment": None, "nps_id": "1234", "ref_url": "https://a.example/x"},
    ),
    (
        fact(
            "post",
            parent="0",
            title="News",
            languages=["EN", "ES"],
            category="new",
            link_url="https://l.example",
        ),
        {
            "post": "News",
            "post_id": "1234",
            "category": "new",
            "languages": ["EN", "ES"],
            "link_url": "https://l.example",
        },
    ),
    (
        fact(
            "request",
            parent="0",
            title="Dark",
            status="planned",
            permalink="https://p.example",
            url="https://no",
        ),
        {"title": "Dark", "request_id": "1234", "status": "planned", "url": "https://p.example"},
    ),
    (
        fact("requestcomment", title="Dark", text="Yes"),
        {"title": "Dark", "comment": "Yes", "request_id": "7", "comment_id": "1234"},
    ),
    (fact("vote", title="Dark"), {"title": "Dark", "request_id": "7", "vote_id": "1234"}),
    (
        fact("status", 1, "0", title="Dark", status="done", previous_status="planned"),
        {"title": "Dark", "request_id": "1234", "previous_status": "planned", "status": "done"},
    ),
    (
        fact("metrics", 3, "0", title="News", views=310, unique_views="250", clicks=0, views_change=-1),
        {
            "post": "News",
            "post_id": "1234",
            "views": 310,
            "unique_views": 250,
            "clicks": 0,
            "views_change": -1,
        },
    ),
    (
        fact(
            "sync", parent="default", complete_through=DATE, waiting=3, nps_sent=7, nps_complete_through="?"
        ),
        {"complete_through": "2018-12-31T00:00:00+00:00", "waiting": 3, "nps_sent": 7},
    ),
    (fact("test", parent="0"), {"test_id": "1234"}),
]


@pytest.mark.parametrize(("given", "expected"), GOLDEN, ids=lambda value: getattr(value, "kind", ""))
def test_each_kind_has_the_properties_of_the_catalogue(given: Fact, expected: dict[str, Any]) -> None:
    assert properties(given) == expected


def test_every_kind_has_a_golden_row() -> None:
    assert {given.kind for given, _ in GOLDEN} == set(EVENTS)


def test_the_body_is_what_track_takes() -> None:
    shaped = shape(fact(text="Hi"), NAMING, Privacy(integrations={"All": False}), NOW)
    assert shaped.event == "Post Commented"
    assert shaped.body | {"properties": {}} == {
        "user_id": "42",
        "anonymous_id": None,
        "event": "Post Commented",
        "properties": {},
        "context": {"integration": {"name": "beamer-segment", "version": __version__}},
        "timestamp": DATE,
        "integrations": {"All": False},
        "message_id": "bmr1-dest-acct-comment-7-1234",
    }


def test_no_event_lies_in_the_future() -> None:
    late = replace(fact(), date=NOW + timedelta(days=1))
    assert shape(late, NAMING, Privacy(), NOW).body["timestamp"] == NOW


@pytest.mark.parametrize(("seconds", "kept"), [(0.0, True), (0.98, True), (5.0, True), (5.1, False)])
def test_a_row_of_this_moment_keeps_its_date(seconds: float, kept: bool) -> None:
    """Beamer's clock is known to the second only, and an answer takes a moment (seed 3694)."""
    date = NOW + timedelta(seconds=seconds)
    assert shape(replace(fact(), date=date), NAMING, Privacy(), NOW).body["timestamp"] == (
        date if kept else NOW
    )


def test_what_the_catalogue_does_not_name_never_leaves() -> None:
    inside: dict[str, Any] = {
        "internal": "jo@corp.example",
        "notes": "inside",
        "filters": "inside",
        "unheard_of": "inside",
    }
    for kind in EVENTS:
        body = str(shape(fact(kind, **inside), NAMING, Privacy(traits="all"), NOW).body)
        assert "inside" not in body
        assert "corp" not in body


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="no event"):
        shape(fact("novel"), NAMING, Privacy(), NOW)


NOBODY: list[Any] = [None, "", "  ", "undefined", "NULL", "None", "NaN", "0", 0, 0.0, "-1", -1]
NOBODY += [True, [], {"id": 1}, "[object Object]", "\x00", float("nan")]


@pytest.mark.parametrize(
    ("given", "user"),
    [
        ("42", "42"),
        (" 42 ", "42"),
        (42, "42"),
        (42.0, "42"),
        ("0x", "0x"),
        ("Noner", "Noner"),
        *[(nobody, None) for nobody in NOBODY],
    ],
)
def test_what_is_a_user_id(given: Any, user: str | None) -> None:
    assert user_of(fact(user_id=given)) == user


class TestWho:
    def who(self, given: Fact, privacy: Privacy) -> tuple[Any, Any]:
        body = shape(given, NAMING, privacy, NOW).body
        return body["user_id"], body["anonymous_id"]

    @pytest.mark.parametrize("kind", ["post", "status", "metrics", "test"])
    def test_what_nobody_did_goes_under_the_connection(self, kind: str) -> None:
        assert self.who(fact(kind), Privacy()) == (None, "beamer-default")

    def test_the_teams_own_rows_too(self) -> None:
        assert self.who(fact("request", user_id=None, team=True), Privacy()) == (None, "beamer-default")

    def test_hold_never_shapes_a_stranger(self) -> None:
        with pytest.raises(ValueError, match="excluded before shaping"):
            self.who(fact(user_id="undefined"), Privacy())

    def test_shared_puts_strangers_under_the_connection(self) -> None:
        assert self.who(fact(user_id=None), Privacy(anonymous="shared")) == (None, "beamer-default")

    def test_send_gives_one_id_per_address_that_does_not_show_it(self) -> None:
        send = Privacy(anonymous="send")
        _, one = self.who(fact(user_id=None, email="Jane@Example.com"), send)
        _, same = self.who(fact("vote", user_id="0", email=" jane@example.com"), send)
        _, other = self.who(fact(user_id=None, email="joe@example.com"), send)
        assert one == same != other
        assert "jane" not in one

    def test_send_falls_back_to_the_row(self) -> None:
        send = Privacy(anonymous="send")
        rows = [fact(user_id=None), fact(user_id=None, email="no address"), fact("vote", user_id=None)]
        ids = [self.who(row, send)[1] for row in rows]
        assert ids[0] == ids[1] != ids[2]


class TestTraits:
    def traits(self, given: Fact, privacy: Privacy) -> Any:
        return shape(given, NAMING, privacy, NOW).body["context"].get("traits")

    @pytest.mark.parametrize(
        ("privacy", "expected"),
        [
            (Privacy(), None),
            (Privacy(trait_attributes=("plan",)), None),
            (Privacy(traits="email", trait_attributes=("plan",)), {"email": "Jane@Example.com"}),
            (
                Privacy(traits="all", trait_attributes=("plan", "missing")),
                {"email": "Jane@Example.com", "firstName": "Jane", "lastName": "Doe", "plan": "pro"},
            ),
        ],
    )
    def test_only_what_is_allowed(self, privacy: Privacy, expected: Any) -> None:
        assert self.traits(fact(**PERSON), privacy) == expected

    @pytest.mark.parametrize("value", [5, 2**53, 2**53 + 1, 10**18, 2**63, -(10**30), 10**307, 1.5])
    def test_a_number_stays_a_number_whatever_its_size(self, value: float) -> None:
        person = PERSON | {"attributes": {"size": value}}
        sent = self.traits(fact(**person), Privacy(traits="all", trait_attributes=("size",)))["size"]
        assert not isinstance(sent, str)
        assert sent == pytest.approx(value)

    @pytest.mark.parametrize(
        ("attribute", "value", "group"),
        [
            ("company_id", "c-1", "c-1"),
            ("company_id", 17, "17"),
            (None, "c-1", None),
            ("plan", "c-1", None),
            ("company_id", "", None),
            ("company_id", "c" * 101, None),
            ("company_id", {"id": 1}, None),
        ],
    )
    def test_a_named_attribute_is_the_group(
        self, attribute: str | None, value: Any, group: str | None
    ) -> None:
        person = PERSON | {"attributes": {"company_id": value}}
        context = shape(fact(**person), NAMING, Privacy(group_attribute=attribute), NOW).body["context"]
        assert context.get("groupId") == group
        assert "traits" not in context
        stranger = fact(**person | {"user_id": None})
        shared = Privacy(anonymous="shared", group_attribute=attribute)
        assert "groupId" not in shape(stranger, NAMING, shared, NOW).body["context"]

    def test_an_attribute_does_not_replace_the_address(self) -> None:
        person = PERSON | {"attributes": {"email": "other@example.com"}}
        assert (
            self.traits(fact(**person), Privacy(traits="all", trait_attributes=("email",)))["email"]
            == "Jane@Example.com"
        )

    @pytest.mark.parametrize("kind", ["status", "post"])
    def test_never_on_the_connections_id(self, kind: str) -> None:
        assert self.traits(fact(kind, **PERSON), Privacy(traits="all")) is None

    def test_never_on_the_shared_id(self) -> None:
        stranger = fact(**PERSON | {"user_id": None})
        assert self.traits(stranger, Privacy(anonymous="shared", traits="all")) is None
        assert self.traits(stranger, Privacy(anonymous="send", traits="email")) == {
            "email": "Jane@Example.com"
        }


LONG = "é" * 139 + "😀" + "tail"
SLUG = "https://b.example/requests/en/dark-mode"


class TestTexts:
    @pytest.mark.parametrize("kind", ["comment", "nps", "requestcomment"])
    @pytest.mark.parametrize(
        ("texts", "given", "expected", "truncated"),
        [
            ("full", LONG, LONG, None),
            ("short", LONG, LONG[:140], True),
            ("short", LONG[:140], LONG[:140], None),
            ("short", None, None, None),
            ("none", LONG, None, None),
        ],
    )
    def test_as_much_of_a_comment_as_the_setting_lets_out(
        self, kind: str, texts: Any, given: Any, expected: Any, truncated: Any
    ) -> None:
        found = properties(fact(kind, text=given), Privacy(texts=texts))
        assert (found.get("comment"), found.get("truncated")) == (expected, truncated)

    def test_columns_of_beamers_own_source_stay_without_texts(self) -> None:
        assert properties(fact(text="Hi"), Privacy(texts="none"))["comment"] is None
        assert "comment" not in properties(fact("requestcomment", text="Hi"), Privacy(texts="none"))

    @pytest.mark.parametrize("kind", ["request", "requestcomment", "vote", "status"])
    def test_a_feature_requests_title_is_a_users_text_and_so_is_its_permalink(self, kind: str) -> None:
        given = fact(kind, title=LONG, permalink=SLUG, status="done")
        assert not {"title", "url"} & set(properties(given, Privacy(texts="none")))
        short = properties(given, Privacy(texts="short"))
        assert (short["title"], short["truncated"]) == (LONG[:140], True)

    @pytest.mark.parametrize("texts", ["short", "none"])
    @pytest.mark.parametrize("kind", ["post", "comment", "reaction", "metrics"])
    def test_a_posts_title_is_published_and_stays(self, kind: str, texts: Any) -> None:
        assert properties(fact(kind, title=LONG), Privacy(texts=texts))["post"] == LONG


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://a.example/x?token=1#y", "https://a.example/x"),
        ("https://me:pw@a.example:8443/x", "https://a.example:8443/x"),
        ("//me@a.example/x", "//a.example/x"),
        ("me:pw@a.example/x?y", "a.example/x"),
        ("a.example/@me", "a.example/@me"),
        ("https://a.example#/x", "https://a.example"),
        ("?only=query", None),
        ("https://a.example/" + "x" * 3000, None),
    ],
)
def test_ref_url_goes_bare(given: str, expected: str | None) -> None:
    assert properties(fact("nps", ref_url=given)).get("ref_url") == expected


def test_ref_url_goes_in_full_when_asked_for() -> None:
    full = properties(fact("nps", ref_url="https://a.example/x?y#z"), Privacy(ref_url="full"))
    assert full["ref_url"] == "https://a.example/x?y#z"


def test_a_shared_key_names_the_connection() -> None:
    shaped = shape(fact(), replace(NAMING, shared_key=True), Privacy(), NOW)
    assert shaped.body["properties"]["beamer_connection"] == "default"


@pytest.mark.parametrize(
    ("naming", "given", "expected"),
    [
        (NAMING, fact(), "bmr1-dest-acct-comment-7-1234"),
        (NAMING, fact("metrics", 20, "0"), "bmr1-dest-acct-metrics-0-1234-20"),
        (Naming("dest", "acct", "other", True), fact(), "bmr1-dest-acct-comment-7-1234"),
        (
            Naming("a-b", "c", "x"),
            fact(),
            "bmr1-56708bcd74f36c50d6add54165e06195353a0717707fb42101e0f3d23d363b3f",
        ),
        (
            Naming("d" * 80, "c", "x"),
            fact(),
            "bmr1-f1b8323ed58149eaee18cd028ea5482e6474c7a4a834d14f6446ddab4acf8862",
        ),
    ],
)
def test_message_ids(naming: Naming, given: Fact, expected: str) -> None:
    assert message_id(naming, given) == expected


PART = st.text(st.sampled_from("ab1-_. é"), max_size=6) | st.text(
    st.sampled_from("ab"), min_size=40, max_size=60
)
NAMED = st.tuples(PART, PART, st.sampled_from(sorted(EVENTS)), PART, PART, st.integers(0, 3))


def ident(parts: tuple[str, str, str, str, str, int]) -> str:
    destination, account, kind, parent, row, change = parts
    return message_id(Naming(destination, account, "x"), Fact(kind, row, parent, DATE, {}, change))


@given(NAMED, NAMED)
def test_message_ids_are_short_and_one_per_row(one: Any, other: Any) -> None:
    assert len(ident(one)) <= 100
    assert (ident(one) == ident(other)) == (one == other)


def test_ambiguous_parts_get_different_ids() -> None:
    assert ident(("a-b", "c", "vote", "1", "2", 0)) != ident(("a", "b-c", "vote", "1", "2", 0))
    assert ident(("a", "b", "vote", "1", "2-3", 0)) != ident(("a", "b", "vote", "1", "2", 3))


def test_the_table_lists_every_property() -> None:
    table = markdown_table()
    width = {line.count(" |") for line in table.splitlines()[2:]}
    assert width == {7}
    for event in EVENTS.values():
        assert f"**{event.name}**" in table
        assert all(f"`{p.name}`" in table for p in event.properties)


def test_beamers_own_columns_are_the_published_ones() -> None:
    own = {e.name: [p.name for p in e.properties if p.in_beamers_source] for e in EVENTS.values()}
    assert {name: columns for name, columns in own.items() if columns} == {
        "Post Commented": ["post", "comment"],
        "Post Reacted To": ["post", "reaction"],
        "NPS Response Sent": ["score", "comment"],
    }

"""`identify`: who was seen since the last reading, once a day, after everything else."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from connector.domain.budget import Limits
from connector.sandbox import Company
from connector.state import leases, privacy
from connector.state.leases import this_process
from connector.state.tables import metadata, users
from connector.state.users import Reading
from connector.sync.users import NOT_ALLOWED, UserPage, after
from tests.harness import Rig, hold_still, sandbox
from tests.state.times import DAY, HOUR, NOW

PEOPLE = 210


def made_rig(url: str, people: int = PEOPLE, **options: Any) -> Rig:
    box = sandbox(company=Company.empty(), plan="scale")
    hold_still(box)
    rows = box.world.users()
    rows.clear()
    for number in range(people):
        rows.append(
            {
                "beamerId": f"{number:05d}-1",
                "userId": f"u{number}",
                "userEmail": f"u{number}@acme.example",
                "language": "EN",
                "filter": "admin",
                "firstSeen": "2025-01-01T10:00:00Z",
                "lastSeen": iso(box.now() - timedelta(minutes=number + 1)),
            }
        )
    return Rig(box, url, settings={"identify": True}, **options)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def user(rig: Rig, name: str) -> dict[str, Any]:
    return next(row for row in rig.sandbox.world.users() if row["userId"] == name)


def identified(rig: Rig) -> list[str]:
    return [message["userId"] for message in rig.sandbox.segment.received if message["type"] == "identify"]


def asked(rig: Rig) -> list[str]:
    """The pages that were requested."""
    paths = (request for request in rig.sandbox.requests if request.path.endswith("/users"))
    return [request.params.get("page", "") for request in paths]


@pytest.fixture
def rig(database_url: str) -> Rig:
    return made_rig(database_url)


def test_each_user_is_sent_once_with_four_traits(rig: Rig) -> None:
    assert rig.sync().exit == 0
    assert sorted(identified(rig)) == sorted(f"u{number}" for number in range(PEOPLE))
    message = next(each for each in rig.sandbox.segment.messages if each["userId"] == "u3")
    seen = rig.sandbox.world.users()
    assert message["traits"] == {
        "beamer_language": "EN",
        "beamer_filter": "admin",
        "beamer_first_seen": "2025-01-01T10:00:00+00:00",
        "beamer_last_seen": user(rig, "u3")["lastSeen"].replace("Z", "+00:00"),
    }
    assert message["context"]["integration"]["name"] == "beamer-segment"
    assert "traits" not in message["context"]
    assert "acme.example" not in json.dumps(rig.sandbox.segment.messages)
    assert len(seen) == PEOPLE
    assert asked(rig) == ["", "1", "2", "3"]
    rig.close()


def test_who_was_seen_since_is_sent_the_next_day(rig: Rig) -> None:
    rig.sync()
    for _ in range(5):
        rig.sandbox.advance(2 * HOUR)
        rig.sync()
    assert len(asked(rig)) == 4
    rig.sandbox.advance(DAY)
    user(rig, "u200")["lastSeen"] = iso(rig.sandbox.now() - HOUR)
    user(rig, "u7")["lastSeen"] = iso(rig.sandbox.now() - 2 * HOUR)
    outcome = rig.sync()
    assert identified(rig)[PEOPLE:] == ["u200", "u7"]
    # The first page shows two changes; the second is the first without one.
    assert asked(rig)[4:] == ["", "1"]
    assert (outcome.report.requests["users"], outcome.report.events["users"]) == (2, 2)
    rig.sandbox.advance(DAY)
    rig.sync()
    assert (asked(rig)[6:], len(identified(rig))) == ([""], PEOPLE + 2)
    rig.close()


def test_a_visit_on_the_same_day_is_no_message(rig: Rig) -> None:
    """One message a user and day at the most: how many users are billed does not depend on it."""
    rig.sync()
    rig.sandbox.advance(DAY)
    row = user(rig, "u5")
    day = row["lastSeen"][:10]
    row["lastSeen"] = f"{day}T23:59:59Z"
    rig.sync()
    assert len(identified(rig)) == PEOPLE
    row["language"] = "ES"
    rig.sandbox.advance(DAY)
    rig.sync()
    assert identified(rig)[PEOPLE:] == ["u5"]
    rig.close()


def test_another_database_sends_the_same_message_ids(rig: Rig, sqlite_url: str) -> None:
    rig.sync()
    other = Rig(rig.sandbox, sqlite_url + "2", settings={"identify": True})
    other.sync()
    assert len(identified(rig)) == 2 * PEOPLE
    assert len(rig.sandbox.segment.messages) == PEOPLE
    rig.close()
    other.close()


def test_it_is_off_unless_asked_for(rig: Rig) -> None:
    rig.settings = {}
    rig.sync()
    rig.settings = {"identify": True}
    rig.sync(command="audit")
    assert (asked(rig), identified(rig)) == ([], [])
    rig.close()


# --- who is not sent, and what is kept ---


def test_who_has_no_id_or_is_forgotten_is_not_sent(rig: Rig) -> None:
    rows = rig.sandbox.world.users()
    rows[0]["userId"], rows[1]["userId"] = "undefined", None
    rows[2]["lastSeen"] = "yesterday"
    rows[3] = {**rows[4], "lastSeen": rows[9]["lastSeen"], "beamerId": "another device"}
    forget(rig, "u8")
    rig.sync()
    sent = identified(rig)
    assert {"u0", "u1", "u8", "undefined"}.isdisjoint(sent)
    assert (sent.count("u4"), sent.count("u2"), len(sent)) == (1, 1, PEOPLE - 4)
    rig.close()


def forget(rig: Rig, name: str) -> privacy.Erased:
    rig.context()
    with leases.holding(rig.database, "default", this_process(), rig.clock) as lease:
        return privacy.erase(rig.database, lease, name, lambda _: False, rig.clock.now())


def test_nothing_but_digests_is_kept_and_an_erasure_deletes_them(rig: Rig) -> None:
    rig.sync()
    with rig.database.read() as db:
        held = {t.name: repr(db.execute(select(t)).all()) for t in metadata.sorted_tables}
    assert not [name for name, text in held.items() if "u17'" in text or "admin" in text]
    assert privacy.traces(rig.database, "default", "u17", lambda _: False).identified
    forget(rig, "u17")
    assert not privacy.traces(rig.database, "default", "u17", lambda _: False).identified
    with rig.database.read() as db:
        assert len(db.execute(select(users)).all()) == PEOPLE - 1
    rig.sandbox.advance(DAY)
    user(rig, "u17")["lastSeen"] = iso(rig.sandbox.now())
    rig.sync()
    assert identified(rig).count("u17") == 1
    rig.close()


# --- what it may spend ---


def test_a_403_is_one_sentence_and_the_rest_goes_on(rig: Rig) -> None:
    rig.sandbox.switches.may_read.discard("users")
    rig.sandbox.world.add("nps", score=9, feedback="Fine", userId="u1")
    rig.sandbox.advance(HOUR)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.troubles) == (0, [f"users: {NOT_ALLOWED}"])
    assert [message["event"] for message in rig.sandbox.segment.messages] == ["NPS Response Sent"]
    rig.sync()
    assert len(asked(rig)) == 1
    rig.sandbox.switches.may_read.add("users")
    rig.sandbox.advance(DAY)
    assert rig.sync().report.troubles == []
    assert len(identified(rig)) == PEOPLE
    rig.close()


def idle(rig: Rig) -> int:
    """How many requests a sync of the streams takes; another one, a day later, takes as many."""
    rig.settings = {}
    for _ in range(3):
        before = rig.beamer_requests
        rig.sync()
        rig.sandbox.advance(DAY)
    rig.settings = {"identify": True}
    return rig.beamer_requests - before


@pytest.mark.parametrize("answer", [500, 429, 401, 404, 400, ("answer", 200, '{"a": 1}', {})])
def test_an_odd_answer_ends_only_this_reading(rig: Rig, answer: Any) -> None:
    requests = idle(rig)
    before = rig.beamer_requests
    rig.sandbox.faults.script("beamer", [*["ok"] * requests, answer])
    outcome = rig.sync()
    rig.sync()
    assert (rig.beamer_requests - before, asked(rig)) == (2 * requests + 1, [""])
    assert (outcome.exit, len(outcome.report.troubles)) == (0, 1), outcome.report.troubles
    rig.sandbox.advance(DAY)
    assert rig.sync().report.troubles == []
    assert len(identified(rig)) == PEOPLE
    rig.close()


def test_a_reading_that_was_cut_short_goes_on_where_it_was(rig: Rig) -> None:
    rig.sync(most_requests=idle(rig) + 2)
    assert asked(rig) == ["", "1"]
    assert len(identified(rig)) == 200
    rig.sandbox.advance(HOUR)
    user(rig, "u209")["lastSeen"] = iso(rig.sandbox.now())
    rig.sync()
    assert asked(rig)[2:] == ["2", "3"]
    # Who was seen meanwhile is in front, and is found the next day.
    assert len(identified(rig)) == PEOPLE - 1
    rig.sandbox.advance(DAY)
    rig.sync()
    assert asked(rig)[4:] == ["", "1"]
    assert sorted(identified(rig)) == sorted(f"u{number}" for number in range(PEOPLE))
    rig.close()


@pytest.mark.parametrize(("monthly", "pages"), [(100_000, 4), (400, 2), (300, 0)])
def test_under_a_limit_a_days_requests_are_left_to_the_streams(
    database_url: str, monthly: int, pages: int
) -> None:
    rig = made_rig(database_url, limits=Limits(monthly, 0, 30, startup=0.05))
    rig.sync()
    assert len(asked(rig)) == pages
    balance = rig.context().ledger.balance(rig.clock.now())
    assert balance.used == rig.beamer_requests
    rig.close()


def test_the_first_page_may_have_the_number_1(database_url: str) -> None:
    rig = made_rig(database_url)
    rig.sandbox.switches.first_page = 1
    rig.sync()
    assert asked(rig) == ["", "1", "2", "3", "4"]
    assert len(set(identified(rig))) == len(identified(rig)) == PEOPLE
    rig.close()


# --- when a reading is over ---

THROUGH = NOW - DAY
OLD, NEW = THROUGH - HOUR, THROUGH + HOUR
SECOND = 1


def page(*visits: datetime, rows: int | None = None) -> UserPage:
    return UserPage(len(visits) if rows is None else rows, visits, {})


@pytest.mark.parametrize(
    ("seen", "changed", "repeated", "number", "next_page"),
    [
        (page(NEW, OLD), True, False, 0, 1),
        (page(NEW, OLD), False, False, 0, 0),
        # Nothing was sent of it, but what is behind may be new.
        (page(NEW, NEW), False, False, 0, 1),
        (page(NEW, THROUGH), False, False, 3, 4),
        # In another order the newest may come last.
        (page(OLD, NEW), False, False, 0, 1),
        (page(), False, False, 5, 0),
        (page(rows=100), False, False, 5, 6),
        (page(NEW, NEW), False, True, 1, 2),
        (page(NEW, NEW), False, True, 2, 0),
    ],
)
def test_when_a_reading_is_over(
    seen: UserPage, changed: bool, repeated: bool, number: int, next_page: int
) -> None:
    before = Reading(NOW - DAY, THROUGH, NEW if number else None, number)
    left = after(before, seen, NOW, changed=changed, repeated=repeated, second=SECOND)
    assert left.page == next_page
    if next_page:
        assert (left.tried_at, left.through) == (before.tried_at, THROUGH)
    else:
        assert left == Reading(NOW, before.newest or max(seen.visits, default=THROUGH))

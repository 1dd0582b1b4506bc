"""A refused key: remembered as a digest, for its connection, until it changes."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from connector.errors import KeyRefused, NothingAllowed, Unreachable, WriteKeyRefused
from connector.reporting import checks
from connector.reporting.checks import Suspended
from connector.state import suspensions
from connector.state.engine import Database
from connector.state.suspensions import Secrets
from connector.state.tables import refusals as table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS: Secrets = {"beamer": "b-key https://one", "segment": "s-key host"}


def test_a_refused_key_suspends_its_own_connection(database: Database) -> None:
    checks.note(database, "a", KEYS, KeyRefused("Beamer refused the API key (401)."), NOW)
    with pytest.raises(Suspended, match="'a' is suspended since 2026-03-01 12:00 UTC: Beamer refused"):
        checks.refuse_suspended(database, "a", KEYS)
    checks.refuse_suspended(database, "b", KEYS)


def test_other_ends_suspend_nothing(database: Database) -> None:
    for error in (None, Unreachable("away"), Suspended("still")):
        checks.note(database, "a", KEYS, error, NOW)
    checks.refuse_suspended(database, "a", KEYS)


@pytest.mark.parametrize("api", ["beamer", "segment"])
def test_the_key_that_was_refused_has_to_change(database: Database, api: str) -> None:
    error = KeyRefused("no") if api == "beamer" else WriteKeyRefused("no")
    checks.note(database, "a", KEYS, error, NOW)
    other: Secrets = {**KEYS, "segment" if api == "beamer" else "beamer": "changed"}
    with pytest.raises(Suspended):
        checks.refuse_suspended(database, "a", other)
    changed: Secrets = {**KEYS, "beamer" if api == "beamer" else "segment": "changed"}
    checks.refuse_suspended(database, "a", changed)
    assert suspensions.listed(database) == {}
    # Going back to the old one is another try.
    checks.refuse_suspended(database, "a", KEYS)


def test_no_key_is_in_the_store_and_digests_cannot_be_compared_between_stores(database: Database) -> None:
    checks.note(database, "a", KEYS, KeyRefused("no"), NOW)
    checks.note(database, "b", {**KEYS, "beamer": "another"}, KeyRefused("no"), NOW)
    checks.note(database, "c", KEYS, KeyRefused("no"), NOW)
    with database.read() as db:
        kept = {row.connection: row.digest for row in db.execute(select(table))}
    assert len(set(kept.values())) == 2
    assert kept["a"] == kept["c"]
    assert all(len(digest) == 64 and "key" not in digest for digest in kept.values())


HOUR = timedelta(hours=1)
REFUSED = KeyRefused("Beamer does not accept the API key (401).")


@pytest.mark.parametrize("error", [REFUSED, WriteKeyRefused("no")])
def test_a_key_that_worked_is_suspended_at_its_second_refusal(database: Database, error: KeyRefused) -> None:
    checks.note(database, "a", KEYS, None, NOW, answered=True, delivered=True)
    checks.note(database, "a", KEYS, error, NOW)
    assert checks.refuse_suspended(database, "a", KEYS, NOW) is None
    assert suspensions.listed(database) == {}
    checks.note(database, "a", KEYS, error, NOW + HOUR)
    with pytest.raises(Suspended, match="suspended since 2026-03-01 12:00"):
        checks.refuse_suspended(database, "a", KEYS, NOW + HOUR)


@pytest.mark.parametrize("between", [True, False])
def test_good_answers_between_two_refusals_keep_a_key(database: Database, between: bool) -> None:
    checks.note(database, "a", KEYS, None, NOW, answered=True)
    for day in range(5):
        now = NOW + timedelta(days=day)
        # In the same run before it, or in a run between.
        checks.note(database, "a", KEYS, REFUSED, now, answered=not between)
        if between:
            checks.note(database, "a", KEYS, None, now + HOUR, answered=True)
        checks.refuse_suspended(database, "a", KEYS, now + 2 * HOUR)


def test_a_key_that_may_read_nothing_needs_no_second_word(database: Database) -> None:
    """The streams were refused in a run before it already."""
    checks.note(database, "a", KEYS, None, NOW, answered=True)
    checks.note(database, "a", KEYS, NothingAllowed("It may read nothing (403)."), NOW)
    with pytest.raises(Suspended):
        checks.refuse_suspended(database, "a", KEYS, NOW)


def test_a_suspended_key_is_tried_again_at_growing_intervals(database: Database) -> None:
    checks.note(database, "a", KEYS, REFUSED, NOW)
    now, waits = NOW, []
    for _ in range(8):
        since = now
        while True:
            now += timedelta(minutes=30)
            try:
                tried = checks.refuse_suspended(database, "a", KEYS, now)
            except Suspended:
                continue
            break
        assert tried
        waits.append((now - since) / HOUR)
        with pytest.raises(Suspended):
            # Where nothing is to be asked, nothing is tried.
            checks.refuse_suspended(database, "a", KEYS)
        checks.note(database, "a", KEYS, REFUSED, now)
    assert waits == [1, 2, 4, 8, 16, 24, 24, 24]
    # A clock that is set back does not make it rest for longer.
    assert checks.refuse_suspended(database, "a", KEYS, NOW - timedelta(days=400))
    checks.note(database, "a", KEYS, None, now, answered=True)
    assert checks.refuse_suspended(database, "a", KEYS, now) is None


def test_a_key_is_untried_from_its_change_to_its_first_answer(database: Database) -> None:
    assert suspensions.tried(database, "a") is None
    checks.note(database, "a", KEYS, None, NOW, answered=True)
    assert suspensions.tried(database, "a")
    other: Secrets = {**KEYS, "beamer": "new"}
    checks.refuse_suspended(database, "a", other, NOW)
    checks.note(database, "a", other, None, NOW)
    assert suspensions.tried(database, "a") is False
    checks.note(database, "a", other, None, NOW, answered=True)
    assert suspensions.tried(database, "a")

"""A refused key: remembered as a digest, for its connection, until it changes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from connector.errors import KeyRefused, NothingAllowed, Unreachable, WriteKeyRefused
from connector.reporting import health
from connector.reporting.health import Suspended
from connector.state import schema, suspensions
from connector.state.engine import Store, open_store
from connector.state.suspensions import Secrets
from connector.state.tables import refusals as table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS: Secrets = {"beamer": "b-key https://one", "segment": "s-key host"}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    schema.ready(store, NOW)
    yield store
    store.close()


def test_a_refused_key_suspends_its_own_connection(store: Store) -> None:
    health.note(store, "a", KEYS, KeyRefused("Beamer refused the API key (401)."), NOW)
    with pytest.raises(Suspended, match="'a' is suspended since 2026-03-01 12:00 UTC: Beamer refused"):
        health.refuse_suspended(store, "a", KEYS)
    health.refuse_suspended(store, "b", KEYS)


def test_other_ends_suspend_nothing(store: Store) -> None:
    for error in (None, Unreachable("away"), Suspended("still")):
        health.note(store, "a", KEYS, error, NOW)
    health.refuse_suspended(store, "a", KEYS)


@pytest.mark.parametrize("door", ["beamer", "segment"])
def test_the_key_that_was_refused_has_to_change(store: Store, door: str) -> None:
    error = KeyRefused("no") if door == "beamer" else WriteKeyRefused("no")
    health.note(store, "a", KEYS, error, NOW)
    other: Secrets = {**KEYS, "segment" if door == "beamer" else "beamer": "changed"}
    with pytest.raises(Suspended):
        health.refuse_suspended(store, "a", other)
    changed: Secrets = {**KEYS, "beamer" if door == "beamer" else "segment": "changed"}
    health.refuse_suspended(store, "a", changed)
    assert suspensions.listed(store) == {}
    # Going back to the old one is another try.
    health.refuse_suspended(store, "a", KEYS)


def test_no_key_is_in_the_store_and_digests_cannot_be_compared_between_stores(store: Store) -> None:
    health.note(store, "a", KEYS, KeyRefused("no"), NOW)
    health.note(store, "b", {**KEYS, "beamer": "another"}, KeyRefused("no"), NOW)
    health.note(store, "c", KEYS, KeyRefused("no"), NOW)
    with store.read() as db:
        kept = {row.connection: row.digest for row in db.execute(select(table))}
    assert len(set(kept.values())) == 2
    assert kept["a"] == kept["c"]
    assert all(len(digest) == 64 and "key" not in digest for digest in kept.values())


def test_lifting_tells_whether_there_was_anything(store: Store) -> None:
    health.note(store, "a", KEYS, KeyRefused("no"), NOW)
    assert suspensions.lift(store, "a", "beamer")
    assert not suspensions.lift(store, "a", "beamer")
    health.refuse_suspended(store, "a", KEYS)


HOUR = timedelta(hours=1)
REFUSED = KeyRefused("Beamer does not accept the API key (401).")


@pytest.mark.parametrize("error", [REFUSED, WriteKeyRefused("no")])
def test_a_key_that_worked_is_suspended_at_its_second_refusal(store: Store, error: KeyRefused) -> None:
    health.note(store, "a", KEYS, None, NOW, answered=True, delivered=True)
    health.note(store, "a", KEYS, error, NOW)
    assert health.refuse_suspended(store, "a", KEYS, NOW) is None
    assert suspensions.listed(store) == {}
    health.note(store, "a", KEYS, error, NOW + HOUR)
    with pytest.raises(Suspended, match="suspended since 2026-03-01 12:00"):
        health.refuse_suspended(store, "a", KEYS, NOW + HOUR)


@pytest.mark.parametrize("between", [True, False])
def test_good_answers_between_two_refusals_keep_a_key(store: Store, between: bool) -> None:
    health.note(store, "a", KEYS, None, NOW, answered=True)
    for day in range(5):
        now = NOW + timedelta(days=day)
        # In the same run before it, or in a run between.
        health.note(store, "a", KEYS, REFUSED, now, answered=not between)
        if between:
            health.note(store, "a", KEYS, None, now + HOUR, answered=True)
        health.refuse_suspended(store, "a", KEYS, now + 2 * HOUR)


def test_a_key_that_may_read_nothing_needs_no_second_word(store: Store) -> None:
    """The streams were refused in a run before it already."""
    health.note(store, "a", KEYS, None, NOW, answered=True)
    health.note(store, "a", KEYS, NothingAllowed("It may read nothing (403)."), NOW)
    with pytest.raises(Suspended):
        health.refuse_suspended(store, "a", KEYS, NOW)


def test_a_suspended_key_is_tried_again_at_growing_intervals(store: Store) -> None:
    health.note(store, "a", KEYS, REFUSED, NOW)
    now, waits = NOW, []
    for _ in range(8):
        since = now
        while True:
            now += timedelta(minutes=30)
            try:
                tried = health.refuse_suspended(store, "a", KEYS, now)
            except Suspended:
                continue
            break
        assert tried
        waits.append((now - since) / HOUR)
        with pytest.raises(Suspended):
            # Where nothing is to be asked, nothing is tried.
            health.refuse_suspended(store, "a", KEYS)
        health.note(store, "a", KEYS, REFUSED, now)
    assert waits == [1, 2, 4, 8, 16, 24, 24, 24]
    # A clock that is set back does not make it rest for longer.
    assert health.refuse_suspended(store, "a", KEYS, NOW - timedelta(days=400))
    health.note(store, "a", KEYS, None, now, answered=True)
    assert health.refuse_suspended(store, "a", KEYS, now) is None


def test_a_key_is_untried_from_its_change_to_its_first_answer(store: Store) -> None:
    assert suspensions.tried(store, "a") is None
    health.note(store, "a", KEYS, None, NOW, answered=True)
    assert suspensions.tried(store, "a")
    other: Secrets = {**KEYS, "beamer": "new"}
    health.refuse_suspended(store, "a", other, NOW)
    health.note(store, "a", other, None, NOW)
    assert suspensions.tried(store, "a") is False
    health.note(store, "a", other, None, NOW, answered=True)
    assert suspensions.tried(store, "a")

"""A refused key: remembered as a digest, for its connection, until it changes."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from connector.errors import KeyRefused, Unreachable, WriteKeyRefused
from connector.service import suspension
from connector.service.suspension import Suspended
from connector.state import refusals, schema
from connector.state.engine import Store, open_store
from connector.state.refusals import Secrets
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
    suspension.note(store, "a", KEYS, KeyRefused("Beamer refused the API key (401)."), NOW)
    with pytest.raises(Suspended, match="'a' is suspended since 2026-03-01 12:00 UTC: Beamer refused"):
        suspension.refuse_suspended(store, "a", KEYS)
    suspension.refuse_suspended(store, "b", KEYS)


def test_other_ends_suspend_nothing(store: Store) -> None:
    for error in (None, Unreachable("away"), Suspended("still")):
        suspension.note(store, "a", KEYS, error, NOW)
    suspension.refuse_suspended(store, "a", KEYS)


@pytest.mark.parametrize("door", ["beamer", "segment"])
def test_the_key_that_was_refused_has_to_change(store: Store, door: str) -> None:
    error = KeyRefused("no") if door == "beamer" else WriteKeyRefused("no")
    suspension.note(store, "a", KEYS, error, NOW)
    other: Secrets = {**KEYS, "segment" if door == "beamer" else "beamer": "changed"}
    with pytest.raises(Suspended):
        suspension.refuse_suspended(store, "a", other)
    changed: Secrets = {**KEYS, "beamer" if door == "beamer" else "segment": "changed"}
    suspension.refuse_suspended(store, "a", changed)
    assert refusals.listed(store) == {}
    # Going back to the old one is another try.
    suspension.refuse_suspended(store, "a", KEYS)


def test_no_key_is_in_the_store_and_digests_cannot_be_compared_between_stores(store: Store) -> None:
    suspension.note(store, "a", KEYS, KeyRefused("no"), NOW)
    suspension.note(store, "b", {**KEYS, "beamer": "another"}, KeyRefused("no"), NOW)
    suspension.note(store, "c", KEYS, KeyRefused("no"), NOW)
    with store.read() as db:
        kept = {row.connection: row.digest for row in db.execute(select(table))}
    assert len(set(kept.values())) == 2
    assert kept["a"] == kept["c"]
    assert all(len(digest) == 64 and "key" not in digest for digest in kept.values())


def test_lifting_tells_whether_there_was_anything(store: Store) -> None:
    suspension.note(store, "a", KEYS, KeyRefused("no"), NOW)
    assert refusals.lift(store, "a", "beamer")
    assert not refusals.lift(store, "a", "beamer")
    suspension.refuse_suspended(store, "a", KEYS)

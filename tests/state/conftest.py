"""A store that is ready, on both databases."""

from collections.abc import Iterator

import pytest

from connector.domain.state import Progress
from connector.state import leases, runs, schema
from connector.state.engine import Store, open_store
from connector.state.leases import Fence, this_process
from connector.state.outbox import Outbox
from connector.state.page_writer import Intake
from connector.state.progress import load
from tests.state.times import NOW

STREAMS = ("posts", "comments", "nps")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    schema.ready(store, NOW)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    store = open_store(sqlite_url)
    schema.ready(store, NOW)
    yield store
    store.close()


@pytest.fixture
def fence(store: Store) -> Fence:
    return leases.acquire(store, "default", this_process(), NOW)


@pytest.fixture
def progress(store: Store) -> Progress:
    return load(store, "default", STREAMS)


@pytest.fixture
def intake(store: Store, fence: Fence) -> Intake:
    return Intake(store, fence, "dest", runs.begin(store, "default", "sync", NOW))


@pytest.fixture
def outbox(store: Store, fence: Fence) -> Outbox:
    return Outbox(store, fence, "dest")

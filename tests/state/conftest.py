"""A database that is ready, on both databases."""

from collections.abc import Iterator

import pytest

from connector.domain.state import Progress
from connector.state import leases, runs, schema
from connector.state.engine import Database, open_database
from connector.state.leases import Lease, this_process
from connector.state.outbox import Outbox
from connector.state.page_writer import PageWriter
from connector.state.progress import load
from tests.state.times import NOW

STREAMS = ("posts", "comments", "nps")


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Database]:
    database = open_database(sqlite_url)
    schema.ready(database, NOW)
    yield database
    database.close()


@pytest.fixture
def lease(database: Database) -> Lease:
    return leases.acquire(database, "default", this_process(), NOW)


@pytest.fixture
def progress(database: Database) -> Progress:
    return load(database, "default", STREAMS)


@pytest.fixture
def writer(database: Database, lease: Lease) -> PageWriter:
    return PageWriter(database, lease, "dest", runs.begin(database, "default", "sync", NOW))


@pytest.fixture
def outbox(database: Database, lease: Lease) -> Outbox:
    return Outbox(database, lease, "dest")

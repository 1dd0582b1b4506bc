"""Two stores of which one takes up what the other holds."""

import io
from pathlib import Path

import pytest

from connector.domain.budget import Limits
from connector.errors import ConfigurationError
from connector.state import connections, leases, privacy, schema, suspensions, transfer
from connector.state.connections import Identity
from connector.state.engine import Database, open_database
from connector.state.leases import this_process
from connector.state.ledger import Ledger
from tests.state.times import NOW


@pytest.fixture
def there(tmp_path: Path, database: Database) -> Database:
    """The database that exports; `database` is where it is imported, and knows another connection."""
    there = open_database(f"sqlite:///{tmp_path / 'there.sqlite'}")
    schema.ready(there, NOW)
    for each, name in ((there, "default"), (database, "other")):
        connections.settle(each, Identity(name, "acct", "dest", NOW), NOW)
    return there


def forget(database: Database, name: str) -> None:
    lease = leases.acquire(database, name, this_process(), NOW)
    privacy.erase(database, lease, "jane", lambda _: False, NOW)


def moved(there: Database, database: Database) -> None:
    file = io.StringIO()
    transfer.export(there, "default", file)
    transfer.load(database, file.getvalue().splitlines(keepends=True), "default")


def test_keys_that_were_refused_in_both_are_no_hindrance(there: Database, database: Database) -> None:
    for each, name in ((there, "default"), (database, "other")):
        suspensions.remember(each, name, "beamer", "key", "No.", NOW)
    moved(there, database)
    assert suspensions.current_refusal(database, "default", {"beamer": "key"}) is None
    assert suspensions.current_refusal(database, "other", {"beamer": "key"}) is not None


def test_people_are_not_forgotten_by_two_keys(there: Database, database: Database) -> None:
    forget(there, "default")
    forget(database, "other")
    with pytest.raises(ConfigurationError, match="its own key"):
        moved(there, database)


def test_who_was_forgotten_stays_so(there: Database, database: Database) -> None:
    forget(there, "default")
    moved(there, database)
    assert "jane" in privacy.load(database, "default")


def test_what_an_account_has_spent_is_not_forgotten_by_an_older_export(
    there: Database, database: Database
) -> None:
    connections.settle(there, Identity("late", "acct", "dest", NOW), NOW)
    limits = Limits(1000, 0, 30)
    books = {name: Ledger(there, "acct", name, limits) for name in ("default", "late")}
    for _ in range(3):
        books["late"].take("posts", NOW, beyond_bucket=True)
    first, second = io.StringIO(), io.StringIO()
    transfer.export(there, "default", first)
    for _ in range(4):
        books["late"].take("posts", NOW, beyond_bucket=True)
    transfer.export(there, "late", second)
    for file, name in ((first, "default"), (second, "late")):
        transfer.load(database, file.getvalue().splitlines(keepends=True), name)
    assert Ledger(database, "acct", "late", limits).balance(NOW).used == 7

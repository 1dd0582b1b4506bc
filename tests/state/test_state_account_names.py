"""One Beamer account has one name: a changed one is refused, so that no request budget begins anew."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from connector import compose
from connector.config import Settings, load
from connector.domain.budget import Limits
from connector.errors import Exit, NoBudget
from connector.state import connections
from connector.state.connections import AccountRenamed, Identity
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.state.tables import accounts, spends
from connector.state.tables import connections as connected
from tests.state.times import DAY, HOUR, NOW

LIMITS = Limits(1_000, 0, 30, startup=1)


def book(database: Database, account: str, name: str = "eu", limits: Limits = LIMITS) -> Ledger:
    return Ledger(database, account, name, limits)


def used(database: Database, account: str) -> int:
    return book(database, account).balance(NOW).used


def settle(database: Database, name: str, account: str, unnamed: str) -> None:
    connections.settle(database, Identity(name, account, "dest", NOW), NOW, unnamed=unnamed)


def spend(database: Database, account: str, requests: int, name: str = "eu", purpose: str = "posts") -> None:
    for _ in range(requests):
        book(database, account, name).take(purpose, NOW, beyond_bucket=True)


def names(database: Database) -> set[str]:
    """Return the accounts of which anything is counted."""
    with database.read() as db:
        held = db.execute(select(accounts.c.name)).scalars().all()
        return {*held, *db.execute(select(spends.c.account)).scalars()}


# --- what was counted before the first sync --------------------------------------------------------------


def test_what_was_counted_before_the_account_had_a_name_counts(database: Database) -> None:
    spend(database, "digest", 5, purpose="check posts")
    book(database, "digest").set_used(100, NOW)
    closed = book(database, "digest").close(NOW)
    before = book(database, "digest").balance(NOW)
    settle(database, "eu", "acme", "digest")
    assert book(database, "acme").balance(NOW) == before
    assert (before.used, before.closed_until, names(database)) == (100, closed, {"acme"})


def test_it_is_added_to_what_other_connections_of_the_account_have_spent(database: Database) -> None:
    settle(database, "us", "acme", "another digest")
    spend(database, "acme", 3, "us")
    spend(database, "digest", 2)
    book(database, "digest").set_used(42, NOW)
    settle(database, "eu", "acme", "digest")
    assert book(database, "acme").balance(NOW).by_purpose == {"posts": 5, "elsewhere": 40}
    assert names(database) == {"acme"}


def test_that_nothing_was_spent_elsewhere_is_still_known(database: Database) -> None:
    limits = Limits(1_000, 0, 30, period_day=1)
    book(database, "digest", limits=limits).take("check posts", NOW + 5 * DAY)
    book(database, "digest", limits=limits).set_used(1, NOW + 5 * DAY)
    settle(database, "eu", "acme", "digest")
    assert book(database, "acme", limits=limits).balance(NOW + 5 * DAY).assumed == 0


def test_what_another_connection_has_spent_stays_where_it_is(database: Database) -> None:
    settle(database, "us", "digest", "digest")
    spend(database, "digest", 3, "us")
    settle(database, "eu", "acme", "digest")
    assert [used(database, each) for each in ("digest", "acme")] == [3, 0]


def test_only_the_first_sync_takes_it_over(database: Database) -> None:
    settle(database, "eu", "acme", "digest")
    spend(database, "digest", 3)
    with database.write() as db:
        db.execute(update(accounts).values(closed_until=NOW + HOUR))
    settle(database, "eu", "acme", "digest")
    assert names(database) == {"digest"}


# --- from settings ---------------------------------------------------------------------------------------

TABLE = """
[[connections]]
name = "{name}"
api_key_env = "{key}"
write_key_env = "WRITE_{name}"
period_day = 1
plan = "free"
startup_share = "100%"
reserve = "0"
"""
KEYS = {"KEY": "the-first-key", "OTHER": "another-key", "WRITE_eu": "to-eu-12345", "WRITE_us": "to-us-12345"}
MADE = compose.digest(KEYS["KEY"])
EU, US = ("eu", "KEY", ""), ("us", "KEY", "")
ACME = 'account = "acme"\n'
NAMED_EU, NAMED_US = ("eu", "KEY", ACME), ("us", "KEY", ACME)


def configured(path: Path, *tables: tuple[str, str, str], **keys: str) -> Settings:
    file = path / "connector.toml"
    file.write_text("".join(TABLE.format(name=name, key=key) + more for name, key, more in tables))
    return load({**KEYS, **keys}, config_file=file)


def spend_all(database: Database, settings: Settings) -> dict[str, tuple[str, int]]:
    """Return each connection's account, and how much of the month it could spend."""
    found = {}
    for connection in settings.connections:
        identity, requests = compose.identity(database, connection, NOW), 0
        ledger = Ledger(database, identity.account, connection.name, compose.limits(connection))
        try:
            while True:
                ledger.take("nps", NOW, beyond_bucket=True)
                requests += 1
        except NoBudget:
            found[connection.name] = (identity.account, requests)
    return found


def refused(database: Database, settings: Settings, name: str) -> str:
    """Return how a connection is refused, and make sure that this wrote nothing."""
    connection = next(each for each in settings.connections if each.name == name)

    def written() -> list[object]:
        with database.read() as db:
            return [*names(database), *db.execute(select(connected)).all()]

    before = written()
    with pytest.raises(AccountRenamed) as caught:
        compose.identity(database, connection, NOW)
    assert (caught.value.exit, written()) == (Exit.CONFIGURATION, before)
    assert all((caught.value.what, caught.value.means, caught.value.todo))
    return str(caught.value)


def test_an_account_that_is_named_after_the_first_run_is_refused(database: Database, tmp_path: Path) -> None:
    assert spend_all(database, configured(tmp_path, EU))["eu"][1] > 900
    named = configured(tmp_path, NAMED_EU)
    said = refused(database, named, "eu")
    for part in (f"of connection 'eu' is '{MADE}'", "names it 'acme'", "messageId", f"to '{MADE}'"):
        assert part in said
    assert compose.account_of(database, named.connections[0]) == MADE
    assert spend_all(database, configured(tmp_path, EU)) == {"eu": (MADE, 0)}


def test_a_name_that_is_taken_away_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    assert spend_all(database, configured(tmp_path, NAMED_EU))["eu"] > ("acme", 900)
    assert spend_all(database, configured(tmp_path, EU)) == {"eu": ("acme", 0)}
    other = ("eu", "KEY", 'account = "acme2"\n')
    assert "is 'acme', but BEAMER_ACCOUNT names it 'acme2'" in refused(
        database, configured(tmp_path, other), "eu"
    )


def test_a_connection_added_after_its_key_was_rotated_takes_over_the_account(
    database: Database, tmp_path: Path
) -> None:
    account, requests = spend_all(database, configured(tmp_path, EU))["eu"]
    assert requests > 900
    rotated = configured(tmp_path, US, EU, KEY="the-second-key")
    assert compose.account_of(database, rotated.connections[0]) == account
    assert spend_all(database, rotated) == {"eu": (account, 0), "us": (account, 0)}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ((NAMED_EU, US), ["acme", "acme"]),
        ((US, NAMED_EU), ["acme", "acme"]),
        ((US, ("eu", "OTHER", ACME)), [MADE, "acme"]),
        ((US, ("eu", "KEY", ACME + 'base_url = "http://127.0.0.1:9/v0"\n')), [MADE, "acme"]),
        ((EU, US), [MADE] * 2),
    ],
)
def test_connections_with_one_key_begin_on_one_account(
    database: Database, tmp_path: Path, tables: list[tuple[str, str, str]], expected: list[str]
) -> None:
    found = configured(tmp_path, *tables).connections
    settled = [compose.identity(database, each, NOW).account for each in found]
    assert settled == expected


def test_two_names_for_one_key_are_refused_from_the_start(database: Database, tmp_path: Path) -> None:
    both = configured(tmp_path, NAMED_EU, ("us", "KEY", 'account = "other"\n'))
    assert [refused(database, both, name)[:26] for name in ("eu", "us")] == ["The Beamer account of conn"] * 2


@pytest.mark.parametrize("together", [True, False])
def test_another_connection_name_with_the_same_key_begins_no_other_budget(
    database: Database, tmp_path: Path, together: bool
) -> None:
    """Also where the settings name the former connection no more."""
    assert spend_all(database, configured(tmp_path, EU))["eu"][1] > 900
    beside = (EU,) if together else ()
    assert f"'us' is '{MADE}'" in refused(database, configured(tmp_path, *beside, NAMED_US), "us")
    assert spend_all(database, configured(tmp_path, *beside, US))["us"] == (MADE, 0)


def test_a_key_of_another_connections_account_is_refused(database: Database, tmp_path: Path) -> None:
    first = configured(tmp_path, EU, ("us", "OTHER", ACME))
    spend_all(database, first)
    changed = configured(tmp_path, EU, NAMED_US)
    assert f"same Beamer key for account '{MADE}'" in refused(database, changed, "us")
    unnamed = configured(tmp_path, EU, US)
    assert f"same Beamer key for account '{MADE}'" in refused(database, unnamed, "us")
    assert spend_all(database, first) == {"eu": (MADE, 0), "us": ("acme", 0)}


def test_what_was_told_before_the_account_had_a_name(database: Database, tmp_path: Path) -> None:
    (unnamed,) = configured(tmp_path, EU).connections
    account = compose.account_of(database, unnamed)
    assert account
    Ledger(database, account, "eu", compose.limits(unnamed)).set_used(420, NOW)
    (named,) = configured(tmp_path, NAMED_EU).connections
    assert compose.identity(database, named, NOW + timedelta(hours=1)).account == "acme"
    assert used(database, "acme") == 420

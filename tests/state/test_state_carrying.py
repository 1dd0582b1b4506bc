"""An account that gets another name: never is less counted than was spent on one account at Beamer."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from connector import compose
from connector.config import Settings, load
from connector.errors import NoBudget
from connector.state import connections, leases
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.ledger import Ledger, Limits
from connector.state.owner import this_process
from connector.state.tables import accounts, spends
from tests.state.times import DAY, HOUR, NOW

LIMITS = Limits(1_000, 0, 30, startup=1)


def book(store: Store, account: str, name: str = "eu") -> Ledger:
    return Ledger(store, account, name, LIMITS)


def used(store: Store, account: str) -> int:
    return book(store, account).balance(NOW).used


def settle(store: Store, name: str, account: str) -> None:
    connections.settle(store, Identity(name, account, "dest", NOW), NOW)


def move(store: Store, name: str, account: str) -> str:
    return connections.rename(store, name, account=account, destination="dest", now=NOW).account


def spend(store: Store, account: str, requests: int, name: str = "eu", purpose: str = "posts") -> None:
    for _ in range(requests):
        book(store, account, name).take(purpose, NOW, beyond_bucket=True)


def names(store: Store) -> set[str]:
    with store.read() as db:
        held = db.execute(select(accounts.c.name)).scalars().all()
        return {*held, *db.execute(select(spends.c.account)).scalars()}


def test_a_new_name_takes_the_ledger_along(store: Store) -> None:
    settle(store, "eu", "old")
    spend(store, "old", 5)
    book(store, "old").set_used(100, NOW)
    closed = book(store, "old").close(NOW)
    before = book(store, "old").balance(NOW)
    assert move(store, "eu", "acme") == "acme"
    assert book(store, "acme").balance(NOW) == before
    assert (before.used, before.closed_until) == (100, closed)
    assert names(store) == {"acme"}


def test_that_nothing_was_spent_elsewhere_is_still_known(store: Store) -> None:
    settle(store, "eu", "old")
    told = Ledger(store, "old", "eu", Limits(1_000, 0, 30, period_day=1))
    told.take("posts", NOW + 5 * DAY)
    told.set_used(1, NOW + 5 * DAY)
    move(store, "eu", "acme")
    assert Ledger(store, "acme", "eu", told.limits).balance(NOW + 5 * DAY).assumed == 0


def test_two_ledgers_of_one_account_are_added_up(store: Store) -> None:
    settle(store, "eu", "old")
    spend(store, "old", 5)
    spend(store, "acme", 3)
    spend(store, "acme", 2, "us", "nps")
    with store.write() as db:
        values = {"refusals": 3, "closed_until": NOW + 2 * HOUR, "level": 7.0, "began_at": NOW - 9 * DAY}
        db.execute(update(accounts).where(accounts.c.name == "old").values(values))
        values = {"closed_until": NOW + HOUR, "level": 90.0, "next_at": 10**17}
        db.execute(update(accounts).where(accounts.c.name == "acme").values(values))
    move(store, "eu", "acme")
    balance = book(store, "acme").balance(NOW)
    assert (balance.used, balance.drawn, balance.by_purpose) == (10, 10, {"posts": 8, "nps": 2})
    assert (balance.closed_until, balance.level) == (NOW + 2 * HOUR, 7.0)
    with store.read() as db:
        (row,) = db.execute(select(accounts)).all()
    assert (row.name, row.refusals, row.began_at, row.next_at) == ("acme", 3, NOW - 9 * DAY, 10**17)


def test_what_was_told_before_the_first_request_comes_along(store: Store) -> None:
    settle(store, "eu", "old")
    book(store, "old").set_used(420, NOW)
    move(store, "eu", "acme")
    assert book(store, "acme").balance(NOW).by_purpose == {"elsewhere": 420}


def test_while_others_stay_both_count_everything_and_afterwards_each_request_counts_once(
    store: Store,
) -> None:
    for name, requests in (("eu", 5), ("us", 3)):
        settle(store, name, "old")
        spend(store, "old", requests, name)
    book(store, "old").set_used(108, NOW)
    move(store, "eu", "acme")
    assert [used(store, each) for each in ("old", "acme")] == [108, 108]
    spend(store, "acme", 7)
    spend(store, "old", 2, "us")
    assert [used(store, each) for each in ("old", "acme")] == [110, 115]
    move(store, "us", "acme")
    balance = book(store, "acme").balance(NOW)
    assert balance.by_purpose == {"posts": 17, "elsewhere": 100}
    assert balance.drawn == 17
    assert names(store) == {"acme"}


def test_a_name_that_is_taken_back(store: Store) -> None:
    for name, requests in (("eu", 5), ("us", 3)):
        settle(store, name, "old")
        spend(store, "old", requests, name)
    move(store, "eu", "acme")
    spend(store, "acme", 2)
    move(store, "eu", "old")
    assert (used(store, "old"), names(store)) == (10, {"old"})


def test_a_name_that_is_taken_on_to_a_third_one(store: Store) -> None:
    """Its shadow still went by the second name: who came there later knew nothing of what it had spent."""
    for name in ("eu", "us", "asia"):
        settle(store, name, "old")
    spend(store, "old", 5)
    move(store, "eu", "second")
    move(store, "eu", "third")
    move(store, "us", "second")
    assert [used(store, each) for each in ("old", "second", "third")] == [5, 5, 5]
    for name in ("us", "asia"):
        move(store, name, "third")
    assert (used(store, "third"), names(store)) == (5, {"third"})


def test_an_account_without_any_request(store: Store) -> None:
    settle(store, "eu", "old")
    assert move(store, "eu", "acme") == "acme"
    assert names(store) == set()


def test_a_run_at_work_keeps_the_ledger_that_it_began_with(store: Store) -> None:
    settle(store, "eu", "old")
    fence = leases.acquire(store, "eu", this_process(), NOW, leases.BACKFILL)
    found = connections.rename(store, "eu", account="acme", destination="other", now=NOW)
    assert (found.account, found.destination) == ("old", "other")
    book(store, "old").take("backfill", NOW, fence)
    leases.release(store, fence, NOW)
    assert move(store, "eu", "acme") == "acme"
    assert (used(store, "acme"), names(store)) == (1, {"acme"})


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["spend", 0, 1, 2])), max_size=15)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, known=st.sampled_from([2, 3]))
def test_however_connections_move_nothing_is_forgotten(
    sqlite_store: Store, steps: list[tuple[str, str | int]], known: int
) -> None:
    mark = uuid4().hex[:8]
    places = dict.fromkeys("abc", 0)

    def account(number: int) -> str:
        return f"{mark}.{number % known}"

    for name in places:
        settle(sqlite_store, f"{mark}.{name}", account(0))
    # Which requests each ledger has to know of; what is spent after the ways parted, only one of them does.
    spent: list[set[int]] = [set() for _ in range(known)]
    requests = 0
    for name, step in steps:
        place = places[name]
        if isinstance(step, str):
            spend(sqlite_store, account(place), 1, f"{mark}.{name}")
            spent[place].add(requests)
            requests += 1
            continue
        move(sqlite_store, f"{mark}.{name}", account(step))
        places[name] = step % known
        spent[places[name]] |= spent[place]
        if place not in places.values():
            spent[place] = set()
        for number, counted in enumerate(spent):
            assert used(sqlite_store, account(number)) >= len(counted)
    for name in places:
        move(sqlite_store, f"{mark}.{name}", account(0))
    if known == 2:
        assert used(sqlite_store, account(0)) == requests


# --- from settings --------------------------------------------------------------------------------------

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


def configured(path: Path, *tables: tuple[str, str, str], **keys: str) -> Settings:
    file = path / "connector.toml"
    file.write_text("".join(TABLE.format(name=name, key=key) + more for name, key, more in tables))
    return load({**KEYS, **keys}, config_file=file)


def spend_all(store: Store, settings: Settings) -> dict[str, tuple[str, int]]:
    """For each connection its account, and how much of the month it could spend."""
    found = {}
    for each in settings.connections:
        identity, requests = compose.identity(store, each, NOW), 0
        ledger = Ledger(store, identity.account, each.name, compose.limits(each))
        try:
            while True:
                ledger.take("nps", NOW, beyond_bucket=True)
                requests += 1
        except NoBudget:
            found[each.name] = (identity.account, requests)
    return found


MADE = compose.digest(KEYS["KEY"])
EU, US = ("eu", "KEY", ""), ("us", "KEY", "")
ACME = 'account = "acme"\n'


def test_an_account_named_after_the_first_run_does_not_get_its_quota_twice(
    sqlite_store: Store, tmp_path: Path
) -> None:
    assert spend_all(sqlite_store, configured(tmp_path, EU))["eu"][1] > 900
    named = configured(tmp_path, ("eu", "KEY", ACME))
    assert compose.account_of(sqlite_store, named.connections[0]) != "acme"
    assert spend_all(sqlite_store, named) == {"eu": ("acme", 0)}
    assert compose.account_of(sqlite_store, named.connections[0]) == "acme"


def test_a_connection_added_after_its_key_was_rotated_takes_over_the_account(
    sqlite_store: Store, tmp_path: Path
) -> None:
    account, requests = spend_all(sqlite_store, configured(tmp_path, EU))["eu"]
    assert requests > 900
    rotated = configured(tmp_path, US, EU, KEY="the-second-key")
    assert compose.account_of(sqlite_store, rotated.connections[0]) == account
    assert spend_all(sqlite_store, rotated) == {"eu": (account, 0), "us": (account, 0)}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ((("eu", "KEY", ACME), US), ["acme", "acme"]),
        ((US, ("eu", "KEY", ACME)), ["acme", "acme"]),
        ((US, ("eu", "OTHER", ACME)), [MADE, "acme"]),
        (
            (US, ("eu", "KEY", ACME + 'base_url = "http://127.0.0.1:9/v0"\n')),
            [MADE, "acme"],
        ),
        ((EU, US), [MADE] * 2),
    ],
)
def test_connections_with_one_key_begin_on_one_account(
    sqlite_store: Store, tmp_path: Path, tables: list[tuple[str, str, str]], expected: list[str]
) -> None:
    found = configured(tmp_path, *tables).connections
    settled = [compose.identity(sqlite_store, each, NOW).account for each in found]
    assert settled == expected


def test_a_connection_with_a_name_of_its_own_does_not_get_the_quota_of_its_key_once_more(
    sqlite_store: Store, tmp_path: Path
) -> None:
    assert spend_all(sqlite_store, configured(tmp_path, EU))["eu"][1] > 900
    both = configured(tmp_path, EU, ("us", "KEY", ACME))
    assert spend_all(sqlite_store, both) == {"eu": (MADE, 0), "us": ("acme", 0)}
    # Once they are on one account each request counts once.
    used_before = used(sqlite_store, MADE)
    named = configured(tmp_path, ("eu", "KEY", ACME), ("us", "KEY", ACME))
    assert spend_all(sqlite_store, named) == {"eu": ("acme", 0), "us": ("acme", 0)}
    assert used(sqlite_store, "acme") == used_before


def test_what_was_told_before_the_account_had_a_name(sqlite_store: Store, tmp_path: Path) -> None:
    (unnamed,) = configured(tmp_path, EU).connections
    account = compose.account_of(sqlite_store, unnamed)
    assert account
    Ledger(sqlite_store, account, "eu", compose.limits(unnamed)).set_used(420, NOW)
    (named,) = configured(tmp_path, ("eu", "KEY", ACME)).connections
    assert compose.identity(sqlite_store, named, NOW + timedelta(hours=1)).account == "acme"
    assert used(sqlite_store, "acme") == 420

"""One state, one account: keys and addresses of another one are refused before anything is written."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from connector.cli.backfill import BackfillOptions, bring_history
from connector.cli.command import Session
from connector.cli.connection_run import Runner, SyncOptions
from connector.cli.output import Output, Reporter
from connector.cli.schedule import OPTIONS, Worker
from connector.cli.state import accept
from connector.clock import SystemClock
from connector.compose import open_ready
from connector.config import load
from connector.errors import ConnectorError
from connector.sandbox import Answer, Company, Request
from connector.state import outbox
from connector.state.engine import Database
from connector.state.tables import accounts, metadata, spends
from tests.cli.process import SMALL, Machine, made_up
from tests.sandbox import FaultyServed, Sandbox

KEY, SAME, FOREIGN = "acme-key", "acme-new-key", "bolt-key"
WRITE, OTHER_WRITE = "acme-write-key", "bolt-write-key"
BOLT = dataclasses.replace(SMALL, seed=99)
COLLECT = SyncOptions(deliver=False)
# What the ledger holds of requests: these may have been sent.
LEDGER = (accounts.name, spends.name)


def with_key(request: Request, key: str) -> Request:
    return dataclasses.replace(request, headers={**request.headers, "beamer-api-key": key})


class Place:
    """Two accounts behind one address, told apart by their keys; `second` is the same at other ports."""

    def __init__(self, stack: ExitStack, folder: Path, acme: Company = SMALL, bolt: Company = BOLT) -> None:
        self.acme, self.bolt = made_up(acme), made_up(bolt)
        self.acme.api_key, self.bolt.api_key = KEY, FOREIGN
        self.acme.segment.write_keys = {WRITE, OTHER_WRITE}
        # Whom the other address answers for, whatever the key.
        self.second_is: Sandbox | None = None
        # What happens before a request to Beamer is answered.
        self.before: Callable[[Request], object] = lambda _: None
        self.first = stack.enter_context(FaultyServed(self._handle, self.acme.faults))
        self.second = stack.enter_context(FaultyServed(self._handle_second, self.acme.faults))
        self.folder = folder

    def _handle(self, request: Request) -> Answer:
        if request.api == "segment":
            return self.acme.handle(request)
        self.before(request)
        key = request.headers.get("beamer-api-key")
        if key == SAME:
            return self.acme.handle(with_key(request, KEY))
        return (self.bolt if key == FOREIGN else self.acme).handle(request)

    def _handle_second(self, request: Request) -> Answer:
        if request.api == "beamer" and self.second_is:
            return self.second_is.handle(with_key(request, self.second_is.api_key))
        return self._handle(request)

    def environment(self, **other: str) -> dict[str, str]:
        return {
            "BEAMER_API_KEY": KEY,
            "BEAMER_BASE_URL": self.first.beamer_url,
            "SEGMENT_WRITE_KEY": WRITE,
            "SEGMENT_HOST": self.first.segment_url,
            "BEAMER_PLAN": "scale",
            "BEAMER_REQUESTS_PER_SECOND": "1000",
            "BEAMER_START_DATE": (datetime.now(UTC) - timedelta(days=30)).isoformat(),
            **other,
        }

    @property
    def sent(self) -> list[tuple[str, str]]:
        """What has landed: which write key, and which messageId."""
        return [(each.write_key, each.message["messageId"]) for each in self.acme.segment.landed]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, tmp_path)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    with ExitStack() as stack:
        yield lambda **companies: Place(stack, tmp_path, **companies)


class Impatient(SystemClock):
    """Waits for nothing."""

    def sleep(self, seconds: float) -> None:
        pass


class Desk:
    """The commands in this process, on one database, each time with what the environment holds then."""

    def __init__(self, place: Place, url: str) -> None:
        self.place, self.url = place, url

    def here(self, **other: str) -> Session:
        return Session(load(self.place.environment(DATABASE_URL=self.url, **other)), Impatient())

    def database(self) -> Database:
        return open_ready(self.here().settings, SystemClock(), workers=4)

    def sync(self, kind: str = "sync", **other: str) -> dict[str, Any]:
        """A sync's result: its exit code, and the error's code where it ended with one."""
        here, database = self.here(**other), self.database()
        connection, runner = here.settings.connection(), Runner(here, database, Reporter(Output.JSON))
        try:
            if kind == "schedule":
                return {"exit": Worker(runner, [connection]).run("sync", connection.name).exit}
            if kind == "backfill":
                since = here.clock.now() - timedelta(days=60)
                return bring_history(runner, connection, BackfillOptions(since=since, yes=True))
            options = {**OPTIONS, "collect": COLLECT}[kind]
            return runner.attempt(connection, options)
        except ConnectorError as error:
            return {"exit": int(error.exit), "error": error.as_dict()}
        finally:
            database.close()

    def accept(self, **other: str) -> dict[str, Any]:
        here, database = self.here(**other), self.database()
        try:
            return accept(here, database, here.settings.connection())
        finally:
            database.close()

    def written(self, *, every: bool = False) -> Mapping[str, Any]:
        """Everything that is stored, but for the ledger unless it is `every` table."""
        database = self.database()
        tables = [table for table in metadata.sorted_tables if every or table.name not in LEDGER]
        with database.read() as db:
            found = {table.name: sorted(map(repr, db.execute(select(table)).all())) for table in tables}
        database.close()
        return found


@pytest.fixture
def desk(place: Place, database_url: str) -> Desk:
    return Desk(place, database_url)


def changes(place: Place, what: tuple[str, ...], key: str = SAME) -> dict[str, str]:
    """The settings that are changed, one letter each."""
    all_of_them = {
        "K": {"BEAMER_API_KEY": key},
        "U": {"BEAMER_BASE_URL": place.second.beamer_url},
        "W": {"SEGMENT_WRITE_KEY": OTHER_WRITE},
        "H": {"SEGMENT_HOST": place.second.segment_url},
    }
    return {name: value for letter in what for name, value in all_of_them[letter].items()}


MORE = partial(pytest.param, marks=(pytest.mark.slow, pytest.mark.long))
EVERY = [each for number in range(5) for each in combinations("KUWH", number)]
# One key alone, or addresses alone.
GOES_ON = [(), ("K",), ("U",), ("W",), ("H",), ("U", "H")]
REFUSED = [each for each in EVERY if each not in GOES_ON]
SOME = [("K", "W"), ("U", "W"), ("W", "H"), ("K", "U", "W", "H")]


@pytest.mark.parametrize("kind", ["sync", "backfill", "schedule", MORE("audit"), MORE("deliver")])
def test_what_may_be_another_account_is_refused_before_anything_is_written(desk: Desk, kind: str) -> None:
    place = desk.place
    assert desk.sync()["exit"] == 0
    before, sent = desk.written(), place.sent
    assert sent
    for what in REFUSED:
        asked = len(place.acme.requests)
        result = desk.sync(kind, **changes(place, what))
        assert result["exit"] == 78, what
        assert desk.written() == before, what
        assert (place.sent, len(place.acme.requests), place.bolt.requests) == (sent, asked, []), what
    assert desk.sync(kind)["exit"] == 0


@pytest.mark.parametrize("kind", ["sync", "backfill", "schedule", MORE("audit"), MORE("deliver")])
def test_another_account_name_is_refused_before_anything_is_written(desk: Desk, kind: str) -> None:
    place = desk.place
    assert desk.sync()["exit"] == 0
    before, sent, asked = desk.written(every=True), place.sent, len(place.acme.requests)
    assert sent
    for other in ({}, changes(place, ("K",)), {"SEGMENT_DESTINATION": "elsewhere"}):
        result = desk.sync(kind, BEAMER_ACCOUNT="acme", **other)
        assert result["exit"] == 78, result
        assert desk.written(every=True) == before
        assert (place.sent, len(place.acme.requests)) == (sent, asked)
    assert desk.sync(kind)["exit"] == 0


@pytest.mark.parametrize("what", GOES_ON, ids="+".join)
def test_one_rotated_key_and_moved_addresses_go_on_without_asking(desk: Desk, what: tuple[str, ...]) -> None:
    place = desk.place
    assert desk.sync()["exit"] == 0
    sent = place.sent
    place.acme.world.add(
        "nps",
        None,
        date=place.acme.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        score=9,
        feedback="Fine",
        userId="u-1",
    )
    for _ in range(2):
        result = desk.sync(**changes(place, what))
        assert (result["exit"], result["waiting_for_former_key"]) == (0, 0), result
    new = place.sent[len(sent) :]
    assert [key for key, _ in new] == [OTHER_WRITE if "W" in what else WRITE], new
    assert len({ident for _, ident in place.sent}) == len(place.sent)


@pytest.mark.parametrize("kind", ["sync", "backfill", MORE("schedule"), MORE("audit")])
@pytest.mark.parametrize("what", [("K",), MORE(("U",)), ("U", "H")])
def test_a_list_that_shows_nothing_known_is_of_another_account(
    desk: Desk, what: tuple[str, ...], kind: str
) -> None:
    place = desk.place
    place.second_is = place.bolt
    assert desk.sync()["exit"] == 0
    before, sent = desk.written(), place.sent
    asked = len(place.bolt.requests)
    for _ in range(2):
        assert desk.sync(kind, **changes(place, what, FOREIGN))["exit"] == 78
    # Posts, feature requests and NPS are compared, each time; a backfill may count before.
    assert 2 * 3 <= len(place.bolt.requests) - asked <= 2 * 4
    assert (desk.written(), place.sent) == (before, sent)
    assert desk.sync(kind)["exit"] == 0


def test_a_key_that_was_replaced_and_comes_back_is_refused(desk: Desk) -> None:
    """Two deployments on one database: each would take the rows of the other."""
    place = desk.place
    for name, key in (("BEAMER_API_KEY", SAME), ("SEGMENT_WRITE_KEY", OTHER_WRITE)):
        assert desk.sync()["exit"] == 0
        assert desk.sync(**{name: key})["exit"] == 0
        before = desk.written()
        assert desk.sync()["exit"] == 78
        assert desk.written() == before
        assert desk.accept()["changed"]
        assert desk.sync()["exit"] == 0
        assert desk.sync(**{name: key})["exit"] == 78
    assert place.bolt.requests == []


@pytest.mark.parametrize("what", SOME, ids="+".join)
def test_a_confirmed_change_goes_on(sqlite_url: str, place: Place, what: tuple[str, ...]) -> None:
    desk = Desk(place, sqlite_url)
    assert desk.sync()["exit"] == 0
    new = changes(place, what)
    assert desk.sync(**new)["exit"] == 78
    names = {"K": "Beamer key", "U": "Beamer address", "W": "Segment write key", "H": "Segment address"}
    assert desk.accept(**new)["changed"] == sorted(names[letter] for letter in what)
    assert desk.sync(**new)["exit"] == 0
    assert desk.accept(**new)["changed"] == []
    assert desk.sync()["exit"] == 78


# --- what waits ---


def test_what_waits_goes_to_no_other_write_key_until_it_is_confirmed(desk: Desk) -> None:
    place = desk.place
    assert desk.sync()["exit"] == 0
    stamp = place.acme.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    place.acme.world.add("nps", None, date=stamp, score=9, feedback="Private", userId="u-1")
    assert desk.sync("collect")["waiting"] == 1
    database = desk.database()
    waits = [each["message_id"] for each in outbox.listed(database, None, None, 9)]
    database.close()
    new = {"SEGMENT_WRITE_KEY": OTHER_WRITE}
    for kind in ("sync", "deliver", "backfill", "audit"):
        result = desk.sync(kind, **new)
        assert result["exit"] == 0, result
    (private,) = waits
    assert private not in [ident for _, ident in place.sent]
    assert desk.sync(**new)["waiting_for_former_key"] == 1
    assert desk.accept(**new)["messages"] == 1
    assert desk.sync(**new)["waiting_for_former_key"] == 0
    assert (OTHER_WRITE, private) in place.sent


def test_with_its_own_key_back_what_waits_is_sent(desk: Desk) -> None:
    """The new key was a mistake: the old one, confirmed, gets what was made for it."""
    place = desk.place
    assert desk.sync()["exit"] == 0
    first = len(place.sent)
    stamp = place.acme.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    place.acme.world.add("nps", None, date=stamp, score=9, feedback="Private", userId="u-1")
    assert desk.sync("collect")["waiting"] == 1
    assert desk.sync(SEGMENT_WRITE_KEY=OTHER_WRITE)["waiting_for_former_key"] == 1
    assert desk.sync()["exit"] == 78
    assert desk.accept()["messages"] == 0
    assert desk.sync()["exit"] == 0
    assert [key for key, _ in place.sent[first:]] == [WRITE]


def test_another_destination_has_write_keys_of_its_own(desk: Desk) -> None:
    place = desk.place
    other = {
        "SEGMENT_DESTINATION": "eu",
        "SEGMENT_WRITE_KEY": OTHER_WRITE,
        "SEGMENT_HOST": place.second.segment_url,
    }
    assert desk.sync(SEGMENT_DESTINATION="us")["exit"] == 0
    assert desk.sync(**other)["exit"] == 0
    # Not a key that comes back, but the one of that destination.
    assert desk.sync(SEGMENT_DESTINATION="us")["exit"] == 0
    assert desk.sync(SEGMENT_DESTINATION="us", SEGMENT_WRITE_KEY=OTHER_WRITE)["exit"] == 0
    assert desk.sync(SEGMENT_DESTINATION="us")["exit"] == 78
    # With the Beamer key or address changed too, it may be another account.
    for more in ({"BEAMER_API_KEY": SAME}, {"BEAMER_BASE_URL": place.second.beamer_url}):
        before = desk.written()
        assert desk.sync(**other, **more)["exit"] == 78
        assert desk.written() == before


# --- what can be compared ---

ONLY_NPS = dataclasses.replace(SMALL, posts=0, requests=0)
EMPTY = dataclasses.replace(SMALL, posts=0, requests=0, nps_per_day=0.0)
NO_POSTS = dataclasses.replace(SMALL, posts=0, nps_per_day=0.0)


@pytest.mark.parametrize("acme", [ONLY_NPS, NO_POSTS], ids=["only NPS", "only feature requests"])
def test_what_there_is_is_compared(places: Callable[..., Place], database_url: str, acme: Company) -> None:
    place = places(acme=acme, bolt=BOLT)
    desk = Desk(place, database_url)
    assert desk.sync()["exit"] == 0
    before = desk.written()
    assert desk.sync(BEAMER_API_KEY=FOREIGN)["exit"] == 78
    assert desk.written() == before
    assert desk.sync(BEAMER_API_KEY=SAME)["exit"] == 0


@pytest.mark.parametrize("what", SOME, ids="+".join)
def test_where_nothing_is_known_nothing_can_be_mixed(
    places: Callable[..., Place], sqlite_url: str, what: tuple[str, ...]
) -> None:
    """Keys that were placeholders, or wrong, until the first row came."""
    place = places(acme=EMPTY)
    desk = Desk(place, sqlite_url)
    assert desk.sync(BEAMER_API_KEY="your-key-here")["exit"] == 77
    assert desk.sync()["exit"] == 0
    assert desk.sync(**changes(place, what))["exit"] == 0
    assert desk.sync()["exit"] == 0


# --- where no row is known: the URL of the feed ---


def feeds_asked(box: Sandbox) -> int:
    return sum(request.path.endswith("/url") for request in box.requests)


@pytest.mark.parametrize("kind", ["sync", "backfill", MORE("schedule"), MORE("audit"), MORE("deliver")])
@pytest.mark.parametrize("what", [("K",), ("U",), MORE(("U", "H")), ("K", "W"), MORE(("K", "U", "W", "H"))])
def test_another_feed_is_of_another_account_where_no_row_is_known(
    places: Callable[..., Place], database_url: str, what: tuple[str, ...], kind: str
) -> None:
    place = places(acme=EMPTY)
    place.second_is = place.bolt
    desk = Desk(place, database_url)
    assert desk.sync()["exit"] == 0
    assert feeds_asked(place.acme) == 1
    before = desk.written()
    for times in (1, 2):
        result = desk.sync(kind, **changes(place, what, FOREIGN))
        if kind == "deliver":
            # It sends no request, and takes nothing over.
            assert (result["exit"], place.bolt.requests) == (0, [])
            continue
        assert result["exit"] == 78, result
        if kind != "schedule":
            assert "names the URL of another feed" in result["error"]["what"]
            assert "accept-keys" in result["error"]["todo"]
            assert "another connection name" in result["error"]["todo"]
        # A backfill may count before.
        assert feeds_asked(place.bolt) == times <= len(place.bolt.requests) <= 2 * times
    after = desk.written()
    same = ["beamer_segment_credential"] if kind == "deliver" else [*before]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert place.sent == []
    assert desk.sync(kind)["exit"] == 0


def test_a_key_of_the_same_feed_goes_on_with_one_request(
    places: Callable[..., Place], database_url: str
) -> None:
    place = places(acme=EMPTY)
    desk = Desk(place, database_url)
    for settings in ({}, {"BEAMER_API_KEY": SAME}, {"BEAMER_API_KEY": SAME}):
        assert desk.sync(**settings)["exit"] == 0
    assert feeds_asked(place.acme) == 2
    assert desk.sync(BEAMER_API_KEY=FOREIGN)["exit"] == 78


def test_an_account_whose_posts_were_all_deleted_has_its_feed(
    places: Callable[..., Place], database_url: str
) -> None:
    """What is stored of it cannot be compared any more, but it is there."""
    place = places(acme=EMPTY)
    post = place.acme.world.add("posts", None, date=place.acme.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    desk = Desk(place, database_url)
    assert desk.sync()["exit"] == 0
    assert (len(place.sent), feeds_asked(place.acme)) == (1, 0)
    place.acme.world.delete("posts", post)
    assert desk.sync("audit")["exit"] == 0
    assert desk.sync()["exit"] == 0
    assert feeds_asked(place.acme) == 1
    before = desk.written()
    assert desk.sync(BEAMER_API_KEY=FOREIGN)["exit"] == 78
    assert (desk.written(), len(place.sent)) == (before, 1)
    assert desk.sync(BEAMER_API_KEY=SAME)["exit"] == 0


@pytest.mark.parametrize("answer", [403, 404, ("answer", 200, "{}", {}), ("answer", 200, '{"url": 1}', {})])
def test_where_beamer_does_not_name_the_feed_syncs_go_on(
    places: Callable[..., Place], database_url: str, answer: Any
) -> None:
    place = places(acme=EMPTY)
    desk = Desk(place, database_url)
    place.before = lambda request: (
        place.acme.faults.script("beamer", [answer]) if request.path.endswith("/url") else None
    )
    for _ in range(2):
        assert desk.sync()["exit"] == 0
    # What it does not say is not asked again for the same key.
    assert feeds_asked(place.acme) == 1
    place.before = lambda _: None
    assert desk.sync(BEAMER_API_KEY=SAME)["exit"] == 0
    assert feeds_asked(place.acme) == 2
    place.bolt.switches.may_read.discard("url")
    # Nothing is known of either account that could be mixed.
    assert desk.sync(BEAMER_API_KEY=FOREIGN)["exit"] == 0


def test_an_account_with_rows_costs_no_request_for_its_feed(desk: Desk) -> None:
    assert desk.sync()["exit"] == 0
    assert desk.sync(BEAMER_API_KEY=SAME)["exit"] == 0
    assert feeds_asked(desk.place.acme) == 0


def test_a_key_rotated_after_months_of_silence(places: Callable[..., Place], database_url: str) -> None:
    """Whole pages of what came meanwhile do not hide what is known."""
    place = places()
    desk = Desk(place, database_url)
    assert desk.sync()["exit"] == 0
    for k in range(25):
        stamp = (place.acme.now() - timedelta(seconds=25 - k)).strftime("%Y-%m-%dT%H:%M:%SZ")
        place.acme.world.add("posts", None, date=stamp)
    result = desk.sync(BEAMER_API_KEY=SAME)
    assert (result["exit"], result["rows_new"].get("posts")) == (0, 25), result


def test_ids_alone_do_not_make_an_account(places: Callable[..., Place], database_url: str) -> None:
    """Whether ids are unique across accounts is not known: the dates have to be the same, too."""
    place = places(bolt=dataclasses.replace(BOLT, days=SMALL.days + 7))
    desk = Desk(place, database_url)
    assert desk.sync()["exit"] == 0
    ids = [{row.id for row in box.world.row_list("posts").rows} for box in (place.acme, place.bolt)]
    assert ids[0] & ids[1]
    assert desk.sync(BEAMER_API_KEY=FOREIGN)["exit"] == 78


@pytest.mark.parametrize(("answer", "code"), [(500, 69), (429, 69), (401, 77), (403, 77), (404, 69)])
def test_where_beamer_does_not_answer_nothing_is_taken_over(desk: Desk, answer: int, code: int) -> None:
    place = desk.place
    assert desk.sync()["exit"] == 0
    place.acme.faults.script("beamer", [answer] * 12)
    before = desk.written()["beamer_segment_credential"]
    assert desk.sync("sync", BEAMER_API_KEY=SAME)["exit"] == code
    assert desk.written()["beamer_segment_credential"] == before


# --- real processes ---


def foreign(machine: Machine) -> dict[str, str]:
    return {"BEAMER_API_KEY": "another-beamer-key", "SEGMENT_WRITE_KEY": "another-write-key"}


@pytest.mark.slow
def test_a_second_account_under_the_same_connection(on_either: Machine) -> None:
    """The environment alone configures both: their connections have one name, and one database."""
    machine = on_either
    assert machine.run("sync").code == 0
    machine.extra |= foreign(machine)
    requests, received = machine.asked(), len(machine.sandbox.segment.received)
    for words in (
        ("sync",),
        ("sync", "--dry-run"),
        ("backfill", "--since", "2024-01-01", "--yes"),
        ("check",),
    ):
        ended = machine.run(*words)
        said = ended.out + ended.err
        assert (ended.code, "BS-081" in said or words == ("check",)) == (78, True), said
        assert "changed together" in said
        assert "accept-keys" in said
        assert "another connection name" in said
    assert (machine.asked(), len(machine.sandbox.segment.received)) == (requests, received)
    ended = machine.run("status", "--output", "json")
    (status,) = ended.json["connections"]
    assert (status["health"], status["grade"]) == ("mismatched", "error")
    machine.sandbox.api_key = "another-beamer-key"
    machine.sandbox.segment.write_keys = {"another-write-key"}
    ended = machine.run("state", "accept-keys")
    assert (ended.code, "the Beamer key and the Segment write key confirmed" in ended.out) == (0, True), ended
    assert machine.run("sync").code == 0
    assert "nothing to confirm" in machine.run("state", "accept-keys").out


def test_a_changed_account_name_ends_each_command_that_works_with_it(on_either: Machine) -> None:
    machine = on_either
    machine.extra["BEAMER_ACCOUNT"] = "acme"
    assert machine.run("sync").code == 0
    requests, received = machine.asked(), len(machine.sandbox.segment.received)
    machine.extra["BEAMER_ACCOUNT"] = "acme2"
    for words in (("sync",), ("sync", "--dry-run"), ("check",), ("state", "accept-keys")):
        ended = machine.run(*words)
        said = ended.out + ended.err
        assert (ended.code, "BS-083" in said or words == ("check",)) == (78, True), said
        assert "account of connection 'default' is 'acme', but BEAMER_ACCOUNT names it 'acme2'" in said
        assert "Set BEAMER_ACCOUNT (`account` in a TOML file) to 'acme'" in said
    ended = machine.run("sync", "--output", "json")
    assert (ended.connection["exit"], ended.connection["error"]["code"]) == (78, "BS-083")
    assert (machine.asked(), len(machine.sandbox.segment.received)) == (requests, received)
    for words in (("status",), ("quota",), ("runs",)):
        assert machine.run(*words).code == 0
    del machine.extra["BEAMER_ACCOUNT"]
    assert machine.run("sync").code == 0
    (account,) = machine.run("quota", "--output", "json").json["accounts"]
    assert (account["account"], account["used"]) == ("acme", machine.asked())


@pytest.mark.slow
def test_held_messages_are_told_of(machine: Machine) -> None:
    machine.sandbox.segment.write_keys |= {"new-write-key"}
    assert machine.run("sync", "--no-deliver", "--max-requests", "4").code == 0
    machine.extra |= {"SEGMENT_WRITE_KEY": "new-write-key"}
    ended = machine.run("sync", "--max-requests", "0")
    assert (ended.code, "for a former write key:" in ended.out) == (0, True), ended
    assert machine.sandbox.segment.received == []
    listed = machine.run("outbox", "list", "--output", "json").json["messages"]
    assert {each["held"] for each in listed} == {True}
    assert "write_key" not in listed[0]
    assert "held" in machine.run("outbox", "list").out
    (status,) = machine.run("status", "--output", "json").json["connections"]
    assert (status["health"], {each["held"] for each in status["waiting"]}) == ("stuck", {True})
    assert "former write key" in machine.run("check", "--offline").out
    ended = machine.run("state", "accept-keys", "--output", "json")
    assert (ended.code, ended.connection["messages"]) == (0, len(listed))
    assert machine.run("sync", "--max-requests", "0").code == 0
    assert len(machine.sandbox.segment.messages) == len(listed)


@pytest.mark.slow
def test_a_rotated_beamer_key_before_the_next_sync(machine: Machine) -> None:
    assert machine.run("sync").code == 0
    machine.sandbox.api_key = machine.extra["BEAMER_API_KEY"] = "a-new-beamer-key"
    (status,) = machine.run("status", "--output", "json").json["connections"]
    assert (status["health"], status["grade"]) == ("unconfirmed", "warning")
    ended = machine.run("check")
    assert (ended.code, "belongs to the same account" in ended.out) == (0, True), ended.out
    assert machine.run("sync").code == 0
    (status,) = machine.run("status", "--output", "json").json["connections"]
    assert status["health"] == "healthy"


@pytest.mark.parametrize("kind", ["sync", "backfill"])
def test_two_runs_with_different_keys_at_once(desk: Desk, kind: str) -> None:
    """Nothing is known yet that could tell them apart: the second one does not begin beside the first."""
    place, seen, go_on = desk.place, threading.Event(), threading.Event()

    def wait(request: Request) -> None:
        if request.headers.get("beamer-api-key") == KEY and not seen.is_set():
            seen.set()
            assert go_on.wait(60)

    place.before = wait
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(desk.sync)
        assert seen.wait(60)
        try:
            second = desk.sync(kind, BEAMER_API_KEY=FOREIGN, SEGMENT_WRITE_KEY=OTHER_WRITE)
        finally:
            go_on.set()
        assert (second["exit"], first.result(60)["exit"]) == (75, 0)
    assert {key for key, _ in place.sent} == {WRITE}
    assert desk.sync(kind, BEAMER_API_KEY=FOREIGN, SEGMENT_WRITE_KEY=OTHER_WRITE)["exit"] == 78


def test_the_daemon_takes_up_keys_that_were_corrected(desk: Desk) -> None:
    """A key file that held another account's key: as soon as it is right again, syncs go on."""
    assert desk.sync()["exit"] == 0
    wrong = desk.here(**changes(desk.place, ("K", "W")))
    wrong.reload = lambda: wrong.settings
    database = desk.database()
    worker = Worker(Runner(wrong, database, Reporter(Output.JSON)), wrong.settings.connections)
    try:
        assert worker.run("sync", "default").exit == 78
        wrong.reload = lambda: desk.here().settings
        assert worker.run("sync", "default").exit == 0
    finally:
        database.close()

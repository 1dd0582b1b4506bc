"""A page is accepted whole or not at all, and once."""

from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Table, event, make_url, select

from connector.beamer.pagination import Cursor
from connector.domain.state import (
    ChildState,
    Effects,
    NewRows,
    Outgoing,
    Page,
    ParentState,
    Progress,
    Rejected,
    RowVerdict,
    Verdict,
)
from connector.errors import Busy
from connector.state import connections, leases, schema
from connector.state.connections import Identity
from connector.state.engine import Database, open_database
from connector.state.leases import this_process
from connector.state.page_writer import PageWriter
from connector.state.progress import load, load_readonly
from connector.state.tables import children, outbox, parents, quarantine, rows, streams, tallies
from connector.sync.lists import stored_pass
from connector.sync.lists.blocks import Part
from connector.sync.lists.count_windows import Left, Round, Window
from connector.sync.lists.passes import ListPass, PassProgress
from connector.sync.planning.arrival import Learning
from tests.state.times import DAY, NOW

PAGE = Page("comments", 2, "100")
WRITTEN = (rows, outbox, quarantine, parents, children, tallies)


def row_verdicts(*ids: str, verdict: Verdict = Verdict.EVENT) -> list[RowVerdict]:
    return [RowVerdict(row_id, verdict) for row_id in ids]


def write_page(
    writer: PageWriter,
    page: Page,
    verdicts: Sequence[RowVerdict],
    rejected: Sequence[Rejected],
    decide: Callable[[NewRows], Effects],
    now: datetime,
) -> Effects:
    with writer.page(page, verdicts, rejected, now) as open_page:
        effects = decide(open_page.new)
        open_page.write(effects)
    return effects


def message(name: str) -> Outgoing:
    return Outgoing(f"bmr1-{name}", "Post Commented", f'{{"id": "{name}"}}', 100)


def all_of(database: Database, table: Table) -> list[dict[str, Any]]:
    with database.read() as db:
        return [dict(row._mapping) for row in db.execute(select(table).order_by(*table.primary_key))]


def test_the_database_says_which_rows_are_new(database: Database, writer: PageWriter) -> None:
    told: list[tuple[Set[str], int]] = []

    def decide(new: NewRows) -> Effects:
        told.append((new.ids, new.quarantined))
        return Effects()

    write_page(writer, PAGE, row_verdicts("1", "2", "2"), [], decide, NOW)
    write_page(writer, PAGE, row_verdicts("2", "3"), [], decide, NOW)
    write_page(writer, replace(PAGE, parent="101"), row_verdicts("1"), [], decide, NOW)
    write_page(writer, replace(PAGE, scope=3), row_verdicts("1"), [], decide, NOW)
    write_page(writer, PAGE, [], [], decide, NOW)
    assert told == [({"1", "2"}, 0), ({"3"}, 0), ({"1"}, 0), ({"1"}, 0), (set(), 0)]


def test_a_verdict_stays_the_first(database: Database, writer: PageWriter) -> None:
    write_page(writer, PAGE, row_verdicts("1", verdict=Verdict.NO_USER), [], lambda *_: Effects(), NOW)
    write_page(writer, PAGE, row_verdicts("1"), [], lambda *_: Effects(), NOW)
    assert [row["verdict"] for row in all_of(database, rows)] == [Verdict.NO_USER]


def full(new: NewRows) -> Effects:
    return Effects(
        events=[message("1"), message("2"), replace(message("3"), stream="posts")],
        rejected=[Rejected("too long", '{"id": "2"}', "2")],
        parents=[ParentState("7", NOW, "open"), ParentState("8", NOW)],
        children=[ChildState(2, "7", "1,2"), ChildState(3, "7", "5")],
        tally=Counter(rows=2, events=3, quarantined=1 + new.quarantined),
    )


def test_everything_a_page_changes_is_written(database: Database, writer: PageWriter) -> None:
    bad = [Rejected("date is not a date", "{}", "9"), Rejected("the row has no valid id", "[]")]
    write_page(writer, PAGE, row_verdicts("1", "2"), bad, full, NOW)
    assert {row["id"]: row["verdict"] for row in all_of(database, rows)} == {
        "1": Verdict.EVENT,
        "2": Verdict.QUARANTINED,
    }
    kept = all_of(database, outbox)
    assert [(row["message_id"], row["stream"], row["state"]) for row in kept] == [
        ("bmr1-1", "comments", "waiting"),
        ("bmr1-2", "comments", "waiting"),
        ("bmr1-3", "posts", "waiting"),
    ]
    assert [(row["row"], row["reason"]) for row in all_of(database, quarantine)] == [
        ("9", "date is not a date"),
        (None, "the row has no valid id"),
        ("2", "too long"),
    ]
    assert {row["what"]: row["count"] for row in all_of(database, tallies)} == {
        "rows": 2,
        "events": 3,
        "quarantined": 3,
    }
    assert [(row["scope"], row["id"], row["status"]) for row in all_of(database, parents)] == [
        (2, "7", "open"),
        (2, "8", None),
    ]
    assert [(row["scope"], row["counter"]) for row in all_of(database, children)] == [(2, "1,2"), (3, "5")]


def test_a_page_read_again_changes_only_sums(database: Database, writer: PageWriter) -> None:
    bad = [Rejected("date is not a date", "{}", "9")]
    quarantined: list[int] = []

    def decide(new: NewRows) -> Effects:
        quarantined.append(new.quarantined)
        return full(new)

    write_page(writer, PAGE, row_verdicts("1", "2"), bad, decide, NOW)
    before = {table.name: all_of(database, table) for table in WRITTEN if table is not tallies}
    write_page(writer, PAGE, row_verdicts("1", "2"), bad, decide, NOW + DAY)
    assert {table.name: all_of(database, table) for table in WRITTEN if table is not tallies} == before
    assert quarantined == [1, 0]
    assert {row["what"]: row["count"] for row in all_of(database, tallies)}["rows"] == 4


def test_a_bad_row_that_changes_is_in_quarantine_once(database: Database, writer: PageWriter) -> None:
    quarantined: list[int] = []

    def decide(new: NewRows) -> Effects:
        quarantined.append(new.quarantined)
        return full(new)

    for views in range(3):
        bad = [
            Rejected("date is not a date", f'{{"id": "9", "views": {views}}}', "9"),
            Rejected("the row has no valid id", f'{{"views": {views}}}'),
        ]
        write_page(writer, PAGE, [], bad, decide, NOW)
    write_page(writer, PAGE, [], [Rejected("too long", '{"id": "9"}', "9")], decide, NOW)
    # Of one without an id nobody can tell whether it is another.
    assert quarantined == [2, 1, 1, 1]


def test_a_page_that_is_not_written_leaves_no_ids(database: Database, writer: PageWriter) -> None:
    with (
        pytest.raises(RuntimeError, match="not written"),
        writer.page(PAGE, row_verdicts("1"), [Rejected("x", "{}")], NOW) as open_page,
    ):
        assert open_page.new == NewRows({"1"}, 1)
    assert not any(all_of(database, table) for table in WRITTEN)


def test_a_page_that_fails_leaves_nothing(database: Database, writer: PageWriter) -> None:
    def broken(new: NewRows) -> Effects:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_page(writer, PAGE, row_verdicts("1"), [Rejected("x", "{}")], broken, NOW)
    assert all(all_of(database, table) == [] for table in WRITTEN)
    seen: list[Set[str]] = []

    def decide(new: NewRows) -> Effects:
        seen.append(new.ids)
        return Effects()

    write_page(writer, PAGE, row_verdicts("1"), [], decide, NOW)
    assert seen == [{"1"}]


def test_a_run_that_lost_its_lease_writes_nothing(
    database: Database, writer: PageWriter, progress: Progress
) -> None:
    leases.acquire(database, "default", this_process(), NOW + DAY)
    before = all_of(database, streams)
    state = replace(progress.streams["comments"], complete=True)
    for write in (
        lambda: write_page(writer, PAGE, row_verdicts("1"), [], full, NOW),
        lambda: writer.note([state], NOW, ignore_filters=True),
        lambda: writer.settle(ChildState(2, "7", "1"), NOW),
    ):
        with pytest.raises(Busy):
            write()
    assert all(all_of(database, table) == [] for table in WRITTEN)
    assert all_of(database, streams) == before


# --- progress -----------------------------------------------------------------------------------------


def test_progress_comes_back_as_it_was_written(
    database: Database, writer: PageWriter, progress: Progress
) -> None:
    state = replace(
        progress.streams["comments"], watermark=NOW, cursor="{}", short_ends=True, trouble="it's \0 \ud800 ‮"
    )
    scope = progress.streams["posts"].scope
    post = ParentState("7", NOW, "Under \\ review \0\ud800🎉", 2, False, "1,2,3", 20000)
    child = ChildState(state.scope, "7", "1,2", "0,2", 0, NOW, "{}")
    effects = Effects(parents=[post], children=[child], stream=state, first_page=1)
    write_page(writer, Page("posts", scope, ""), [], [], lambda *_: effects, NOW)
    loaded = load_readonly(database, "default")
    assert loaded.streams["comments"] == state
    assert loaded.streams["posts"] == progress.streams["posts"]
    assert loaded.parents == {"posts": {"7": post}}
    assert loaded.children == {"comments": {"7": child}}
    moved, gone = replace(child, counter="2,2", cursor=None), replace(post, gone=True)
    effects = Effects(parents=[gone], children=[moved])
    write_page(writer, Page("posts", scope, ""), [], [], lambda *_: effects, NOW)
    again = load(database, "default", ("posts", "comments", "nps"))
    assert (again.parents["posts"]["7"], again.children["comments"]["7"]) == (gone, moved)
    assert load(database, "another", ("posts",)).parents == {}


def test_a_new_stream_gets_its_row_and_the_others_keep_theirs(database: Database) -> None:
    first = load(database, "default", ("posts",))
    second = load(database, "default", ("posts", "nps"))
    assert second.streams["posts"] == first.streams["posts"]
    assert second.streams["nps"].scope != first.streams["posts"].scope


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_dates_do_not_depend_on_the_server_s_zone(postgres_url: str, zone: str) -> None:
    name = make_url(postgres_url).database
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'".encode())
    database = open_database(postgres_url)
    schema.ready(database, NOW)
    writer = PageWriter(database, leases.acquire(database, "default", this_process(), NOW), "dest", 1)
    scope = load(database, "default", ("posts",)).streams["posts"].scope
    dates = [datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), NOW]
    effects = Effects(parents=[ParentState(str(number), date) for number, date in enumerate(dates)])
    write_page(writer, Page("posts", scope, ""), [], [], lambda *_: effects, NOW)
    assert [parent.date for parent in load_readonly(database, "default").parents["posts"].values()] == dates
    database.close()


def test_identity_is_fixed_at_first_sight(database: Database, writer: PageWriter) -> None:
    first = Identity("default", "acct", "dest", NOW)
    assert connections.known(database, "default") is None
    assert connections.settle(database, first, NOW) == first
    other = Identity("default", "other", "elsewhere", NOW - DAY)
    assert connections.settle(database, other, NOW + DAY) == first
    writer.note([], NOW, ignore_filters=False)
    write_page(writer, PAGE, [], [], lambda *_: Effects(first_page=0), NOW)
    connections.set_destination(database, "default", "d2")
    assert connections.known(database, "default") == Identity("default", "acct", "d2", NOW, 0, False, NOW)


# --- what it costs ------------------------------------------------------------------------------------


def test_a_page_takes_as_many_statements_whatever_it_holds(database: Database, writer: PageWriter) -> None:
    counted: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _u, text, *_: counted.append(text))

    def statements(size: int) -> int:
        ids = [f"{size}-{number}" for number in range(size)]
        effects = Effects(
            events=[message(row_id) for row_id in ids],
            parents=[ParentState(row_id, NOW) for row_id in ids],
            children=[ChildState(2, row_id, "1") for row_id in ids],
            tally=Counter(rows=size, events=size),
        )
        counted.clear()
        bad = [Rejected("x", f"{{{row_id}}}") for row_id in ids]
        write_page(writer, PAGE, row_verdicts(*ids), bad, lambda *_: effects, NOW)
        return len(counted)

    assert statements(1) == statements(10) == statements(100) <= 8


def test_a_surplus_is_added_to_by_sync_and_backfill_alike(database: Database, writer: PageWriter) -> None:
    """A sync that had the list in hand wrote its own figure over the one that a backfill had added to."""

    def page(child: ChildState | None, ahead: int) -> None:
        effects = Effects(children=[child] if child else [], ahead=ahead)
        write_page(writer, PAGE, [], [], lambda *_: effects, NOW)

    ours = ChildState(PAGE.scope, PAGE.parent, "4", "4", surplus=1)
    page(ours, 1)
    page(None, 3)
    page(replace(ours, counter="5", read_counter="5", surplus=0), -1)
    writer.settle(replace(ours, surplus=7), NOW)
    assert [row["surplus"] for row in all_of(database, children)] == [3]


def test_what_a_run_stores_of_its_readings_is_read_again(
    database: Database, writer: PageWriter, progress: Progress, caplog: pytest.LogCaptureFixture
) -> None:
    """A column that took lists only answered each curve as damaged: what was learnt was lost."""
    window = Window(1, 3, datetime(1970, 1, 2, tzinfo=UTC))
    stored = replace(
        progress.streams["nps"],
        cursor=stored_pass.dump(
            ListPass(Part(Cursor(page=2, last_ids=("1",))), progress=PassProgress(pages=1))
        ),
        windows=Round((Left(window, 2),)).dump(),
        curve=Learning().dump(),
    )
    writer.note([stored], NOW)
    assert load_readonly(database, "default").streams["nps"] == stored
    assert "damaged" not in caplog.text

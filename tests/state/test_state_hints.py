"""Hints in the database: by list, bounded, and taken off by whoever has read the list."""

from datetime import timedelta
from threading import Thread

from connector.domain.hints import ANYWHERE, Hint, NewHint, ReadHint, title_digest
from connector.domain.state import Effects, Page, ParentState, Progress, RowVerdict, Verdict
from connector.state import hints
from connector.state.engine import Database
from connector.state.page_writer import PageWriter
from tests.state.times import NOW

SAME = title_digest("Same")


def know(writer: PageWriter, progress: Progress) -> None:
    """Three posts, two of one title; a comment at the first."""
    titles = {"p1": SAME, "p2": SAME, "p3": title_digest("Other")}
    posts = Effects(parents=[ParentState(name, NOW, title=title) for name, title in titles.items()])
    with writer.page(Page("posts", progress.streams["posts"].scope, "0"), [], [], NOW) as page:
        page.write(posts)
    comments = Page("comments", progress.streams["comments"].scope, "p1")
    with writer.page(comments, [RowVerdict("c1", Verdict.EVENT)], [], NOW) as page:
        page.write(Effects())


def of(**fields: str) -> NewHint:
    return NewHint("comments", "posts", **fields)


def test_where_a_hint_belongs(database: Database, writer: PageWriter, progress: Progress) -> None:
    know(writer, progress)
    cases = [
        (of(title=SAME), {"p1", "p2"}),
        (of(title=title_digest("Other")), {"p3"}),
        (of(title=title_digest("Nobody's")), {ANYWHERE}),
        (of(parent="p2"), {"p2"}),
        (of(parent="p9"), {ANYWHERE}),
        (of(), {ANYWHERE}),
        # At a post whose title it has, the row is known.
        (of(title=SAME, row="c1"), set()),
        (of(title=SAME, row="c2"), {"p1", "p2"}),
        (NewHint("nps"), {ANYWHERE}),
        (NewHint("feature_request_votes", "feature_requests", parent="r1"), {ANYWHERE}),
    ]
    for number, (hint, lists) in enumerate(cases):
        hints.add(database, f"c{number}", [hint], NOW)
        hints.add(database, "default", [hint], NOW)
        found = hints.waiting(database, "default").get(hint.stream, {})
        assert set(found) == lists, hint
        with database.write() as db:
            hints.read(db, "default", [ReadHint(hint.stream, name, 1, 0) for name in found], NOW)
        # Of a connection that was never synced, nothing is known.
        assert set(hints.waiting(database, f"c{number}")[hint.stream]) == {ANYWHERE}
    assert hints.waiting(database, "default") == {}


def test_hints_add_up_until_their_list_is_read(database: Database) -> None:
    later = NOW + timedelta(minutes=1)
    hints.add(database, "default", [of(), of()], NOW)
    hints.add(database, "default", [of()], later)
    assert hints.waiting(database, "default") == {"comments": {ANYWHERE: Hint(3, NOW)}}
    assert hints.newest(database, later) == {"default": later}
    with database.write() as db:
        hints.read(db, "default", [ReadHint("comments", ANYWHERE, 2, 1)], NOW)
    assert hints.waiting(database, "default")["comments"][ANYWHERE].count == 1
    with database.write() as db:
        hints.read(db, "default", [ReadHint("comments", ANYWHERE, 5, 0)], NOW)
    assert (hints.waiting(database, "default"), hints.newest(database, later)) == ({}, {})
    sums = hints.sums(database, "default")["comments"]
    assert (sums.received, sums.received_at, sums.confirmed, sums.waiting) == (3, later, 1, 0)
    hints.add(database, "default", [of()], later)
    assert hints.waiting(database, "default")["comments"][ANYWHERE] == Hint(1, later)


def test_a_hint_is_kept_until_its_row_is_settled(database: Database) -> None:
    """What comes meanwhile, or while the list is read, can be read at once."""
    settled = NOW + timedelta(minutes=15)

    def read(count: int, left: int) -> None:
        with database.write() as db:
            kept = ReadHint("nps", ANYWHERE, count, count - left, left, timedelta(minutes=15))
            hints.read(db, "default", [kept], NOW)

    hints.add(database, "default", [NewHint("nps")] * 3, NOW)
    read(3, 1)
    assert hints.waiting(database, "default")["nps"][ANYWHERE] == Hint(1, settled)
    assert hints.newest(database, settled - timedelta(seconds=1)) == {}
    assert hints.newest(database, settled) == {"default": settled}
    later = NOW + timedelta(minutes=1)
    hints.add(database, "default", [NewHint("nps")], later)
    assert hints.waiting(database, "default")["nps"][ANYWHERE] == Hint(2, later)
    assert hints.newest(database, later) == {"default": later}
    read(1, 1)
    assert hints.waiting(database, "default")["nps"][ANYWHERE] == Hint(2, later)


def test_what_waits_is_bounded(database: Database) -> None:
    for _ in range(3):
        hints.add(database, "default", [of()] * 900, NOW)
    assert hints.waiting(database, "default")["comments"][ANYWHERE].count == hints.MOST_WAITING
    assert hints.sums(database, "default")["comments"].received == 2_700
    hints.add(database, "default", [], NOW)


def test_several_at_once_lose_none(database: Database) -> None:
    """Two daemons behind one load balancer share the table."""
    new = [of(), NewHint("nps"), NewHint("posts")]
    threads = [Thread(target=hints.add, args=(database, "default", new, NOW)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {sums.received for sums in hints.sums(database, "default").values()} == {8}


def test_a_page_and_its_hint_are_written_together(
    database: Database, writer: PageWriter, progress: Progress
) -> None:
    hints.add(database, "default", [NewHint("nps")], NOW)
    page_key = Page("nps", progress.streams["nps"].scope, "0")
    with writer.page(page_key, [RowVerdict("n1", Verdict.EVENT)], [], NOW) as page:
        page.write(Effects(hints=[ReadHint("nps", ANYWHERE, 1, 1)]))
    assert hints.waiting(database, "default") == {}

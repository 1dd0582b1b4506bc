"""What the ids that are kept for ever weigh, and how a long queue is read."""

import random
from typing import Any

from sqlalchemy import event, select, text

from connector.state.dialects import add_new
from connector.state.engine import Database, driver
from connector.state.outbox import Outbox
from connector.state.tables import rows
from tests.state.times import NOW

ROWS, PARENTS = 200_000, 2_000


def values() -> list[dict[str, Any]]:
    """In no order, which fills pages worst."""
    found = [
        {
            "scope": 10 + number % 3,
            "parent": str(100_000 + number % PARENTS),
            "id": str(1_000_000 + number),
            "verdict": 1 + number % 5,
            "run": 1000 + number // 500,
        }
        for number in range(ROWS)
    ]
    random.Random(1).shuffle(found)
    return found


def test_an_id_weighs_less_than_fifty_bytes(sqlite_store: Database) -> None:
    assert sqlite_store.path
    sqlite_store.close()
    before = sqlite_store.path.stat().st_size
    kept = values()
    with sqlite_store.write() as db:
        driver(db).executemany(
            "INSERT INTO beamer_segment_row VALUES (:scope, :parent, :id, :verdict, :run)", kept
        )
    sqlite_store.close()
    weight = (sqlite_store.path.stat().st_size - before) / ROWS
    assert 20 < weight < 50
    with sqlite_store.write() as write:
        assert add_new(write, rows, kept[:100], rows.c.id) == []


def test_the_first_of_many_messages_are_found_without_sorting(sqlite_store: Database) -> None:
    mine = "connection = 'c' AND destination = 'd' AND work = 'sync' AND state <> 'dead'"
    waiting = f"SELECT id FROM beamer_segment_outbox WHERE {mine}"  # noqa: S608 - constants
    old = "DELETE FROM beamer_segment_outbox WHERE state = 'dead' AND answered_at < '2026'"
    with sqlite_store.read() as db:
        plan = db.execute(text(f"EXPLAIN QUERY PLAN {waiting} ORDER BY id LIMIT 100")).all()
        assert "beamer_segment_outbox_live (connection=? AND destination=? AND work=?)" in str(plan)
        assert "TEMP B-TREE" not in str(plan)
        plan = db.execute(text(f"EXPLAIN QUERY PLAN {old}")).all()
        assert "beamer_segment_outbox_dead (answered_at<?)" in str(plan)


def test_claiming_asks_as_planned(database: Database, outbox: Outbox) -> None:
    said: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _u, asked, *_: said.append(asked))
    outbox.claim(100, NOW)
    assert "state <> 'dead'" in said[-1]
    assert len(said) == 3  # the beginning, the lease, and one for all messages
    with database.read() as db:
        assert db.execute(select(rows)).all() == []

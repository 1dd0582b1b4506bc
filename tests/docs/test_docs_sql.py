"""The statements of docs/how-to/warehouse-sql.md run on tables as Segment makes them."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.cli.process import Machine, made_up
from tests.docs.sections import ROOT, rows

TEXT = (ROOT / "docs/how-to/warehouse-sql.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"^```sql\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
TABLES = """
CREATE SCHEMA beamer;
CREATE TABLE beamer.nps_response_sent (
    id text, user_id text, anonymous_id text, timestamp timestamptz, received_at timestamptz,
    score int, comment text, nps_id text
);
CREATE TABLE beamer.beamer_sync_completed (
    received_at timestamptz, nps_complete_through timestamptz, nps_sent int
);
"""
# Id, user, day of May 2026, score; the first response is there twice, and ann answered twice.
RESPONSES = (
    ("a", "ann", 1, 0),
    ("a", "ann", 1, 0),
    ("b", "ann", 9, 10),
    ("c", "bob", 3, 9),
    ("d", "cy", 4, 7),
)


@pytest.fixture
def warehouse(postgres_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(TABLES)
        for row_id, user, day, score in RESPONSES:
            date = datetime(2026, 5, day, tzinfo=UTC)
            connection.execute(
                "INSERT INTO beamer.nps_response_sent VALUES (%s, %s, NULL, %s, %s, %s, NULL, %s)",
                (row_id, user, date, date + timedelta(hours=score), score, row_id),
            )
        yield connection


@pytest.mark.parametrize(
    ("sync", "complete_through", "verdict"),
    [(1, 2, "quiet"), (1, 90, "behind"), (90, 90, "broken")],
)
def test_the_statements_of_the_page_give_what_it_says(
    warehouse: psycopg.Connection[tuple[object, ...]], sync: int, complete_through: int, verdict: str
) -> None:
    now = datetime.now(UTC)
    warehouse.execute(
        "INSERT INTO beamer.beamer_sync_completed VALUES (%s, %s, 4)",
        (now - timedelta(hours=sync), now - timedelta(hours=complete_through)),
    )
    view, *queries = STATEMENTS
    warehouse.execute(view.encode())
    repeated, by_month, by_person, quiet, late, complete = (
        warehouse.execute(query.encode()).fetchall() for query in queries
    )
    assert repeated == [(1,)]
    # 10 and 9 less 0, of four responses; 10 and 9, of three people.
    assert [row[1:] for row in by_month] == [(4, 25)]
    assert [row[1:] for row in by_person] == [(3, 67)]
    assert str(quiet[0][3]).startswith(verdict)
    delays = {day: timedelta(hours=score) for _, _, day, score in RESPONSES}
    assert [row[1:] for row in late] == [(1, delays[day], delays[day]) for day in sorted(delays)]
    assert complete == [(4, 4)]


# --- with the events of a sync ----------------------------------------------------------------------------

Warehouse = psycopg.Connection[tuple[object, ...]]


def snake(name: str) -> str:
    """A table's or column's name, as Segment makes it of an event's or property's name."""
    return re.sub(r"\W+", "_", name).lower()


def column_type(value: object) -> str:
    if isinstance(value, int | float):
        return "numeric"
    return "timestamptz" if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value) else "text"


def stored(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a row of its event's table; a property that is null or absent makes no column."""
    fixed = {"id": "messageId", "user_id": "userId", "anonymous_id": "anonymousId", "timestamp": "timestamp"}
    row = {column: message.get(name) for column, name in fixed.items()}
    row |= {snake(name): value for name, value in message["properties"].items()}
    return {name: value for name, value in row.items() if value is not None and not isinstance(value, list)}


def load(warehouse: Warehouse, messages: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Fill the tables as Segment does; return their columns."""
    warehouse.execute("CREATE SCHEMA beamer")
    columns: dict[str, set[str]] = {}
    for message in messages:
        table, row = Identifier("beamer", name := snake(message["event"])), stored(message)
        if name not in columns:
            warehouse.execute(SQL("CREATE TABLE {} (received_at timestamptz DEFAULT now())").format(table))
        for column in row.keys() - columns.setdefault(name, set()):
            added = SQL("ALTER TABLE {} ADD COLUMN {} " + column_type(row[column]))
            warehouse.execute(added.format(table, Identifier(column)))
        columns[name] |= row.keys()
        into = SQL("INSERT INTO {} ({}) VALUES ({})").format(
            table, SQL(", ").join(map(Identifier, row)), SQL(", ").join([SQL("%s")] * len(row))
        )
        warehouse.execute(into, list(row.values()))
    return columns


@pytest.mark.slow
def test_the_statements_work_on_the_events_of_a_sync(tmp_path: Path, postgres_url: str) -> None:
    box = made_up()
    settings = {"BEAMER_SYNC_EVENT": "true", "BEAMER_ANONYMOUS": "send", "BEAMER_PLAN": "pro"}
    with box.serve() as served:
        assert Machine(box, served, tmp_path, extra=settings).run("sync").code == 0
    messages = box.segment.messages
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as warehouse:
        columns = load(warehouse, messages)
        view, *queries = STATEMENTS
        warehouse.execute(view.encode())
        results = [warehouse.execute(query.encode()).fetchall() for query in queries]
    repeated, by_month, _, quiet, _, complete = results
    scores: dict[str, list[int]] = {}
    for message in messages:
        if message["event"] == "NPS Response Sent":
            scores.setdefault(message["timestamp"][:7], []).append(message["properties"]["score"])
    assert scores
    assert [row[1] for row in by_month] == [len(scores[month]) for month in sorted(scores)]
    for month, row in zip(sorted(scores), by_month, strict=True):
        share = sum((score >= 9) - (score <= 6) for score in scores[month]) / len(scores[month])
        assert abs(float(str(row[2])) - 100 * share) <= 0.5
    assert repeated == [(0,)]
    assert str(quiet[0][3]).startswith("quiet")
    answers = sum(map(len, scores.values()))
    assert complete == [(answers, answers)]
    # The page's own table names what is there.
    for tables, _, named in rows(TEXT):
        for table in re.findall(r"`(\w+)`", tables):
            if table in columns and ", and" not in named and " or " not in named:
                assert {*re.findall(r"`(\w+)`", named)} <= columns[table], table

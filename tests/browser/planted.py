"""A database with a month of life in it, written down at once: what the page is made from."""

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, update

from connector.beamer.streams import CATALOGUE
from connector.domain.period import day_of, micros
from connector.state import connections, progress, schema
from connector.state.connections import Identity
from connector.state.engine import Database
from connector.state.tables import accounts, runs, spends, streams, tallies
from connector.sync.report import Lateness

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KINDS = ("done",) * 17 + ("stopped", "incomplete", "failed")


def planted(database: Database, now: datetime, *, name: str = "default", every: timedelta = HOUR) -> None:
    """One connection on a small plan, made forty days ago, with runs of the last 30 days."""
    schema.ready(database, now)
    began = now - 40 * DAY
    connections.settle(database, Identity(name, f"acct.{name}", f"dest.{name}", began - 30 * DAY), began)
    progress.load(database, name, tuple(CATALOGUE))
    _plant_streams(database, name, now)
    _plant_runs(database, name, now, every)
    _plant_spends(database, name, now)


def _plant_streams(database: Database, name: str, now: datetime) -> None:
    with database.write() as db:
        for place, stream in enumerate(CATALOGUE):
            newest = now - HOUR * (place + 2)
            marks = {
                "complete_through": now - HOUR,
                "newest": newest,
                "delay": 1800.0,
                "checked_at": now - HOUR,
            }
            mine = (streams.c.connection == name) & (streams.c.name == stream)
            db.execute(update(streams).where(mine).values(complete=True, **marks))
            counts = {"rows": 400 - 50 * place, "events": 380 - 50 * place, "sent": 380 - 50 * place}
            new = [
                {"connection": name, "stream": stream, "what": what, "count": n} for what, n in counts.items()
            ]
            db.execute(insert(tallies), [*new, {**new[0], "what": "no_user", "count": 20}])


def _plant_runs(database: Database, name: str, now: datetime, every: timedelta) -> None:
    count = int(30 * DAY / every) - 1
    rows = [_run(name, now - every * (count - index), index) for index in range(count)]
    rows[count // 2] |= {"finished_at": None, "outcome": None, "exit": None, "summary": None}
    with database.write() as db:
        db.execute(insert(runs), rows)


def _run(name: str, began: datetime, index: int) -> dict[str, Any]:
    outcome = KINDS[index * 7 % len(KINDS)]
    found = {stream: n for place, stream in enumerate(CATALOGUE) if (n := (index * (place + 3)) % 17 % 4)}
    late = Lateness()
    late.note(1800.0 * (1 + (index * step) % 23) for step in range(1, 1 + sum(found.values())))
    summary = {
        "rows_new": found,
        "events": found,
        "excluded": {},
        "audited": {"comments": 1, "nps": 1} if index % 40 == 0 else {},
        "missing_found": {"comments": 1} if index % 160 == 0 else {},
        "late": late.as_dict(),
        "sent": sum(found.values()),
        "requests": {"posts": 2, "nps": 1},
        "requests_spent": 3,
        "troubles": [],
    }
    return {
        "connection": name,
        "command": "sync",
        "started_at": began,
        "finished_at": began + timedelta(seconds=4),
        "outcome": outcome,
        "exit": 69 if outcome == "failed" else 0,
        "summary": json.dumps(summary),
    }


def _plant_spends(database: Database, name: str, now: datetime) -> None:
    account, today = f"acct.{name}", day_of(now)
    purposes = (
        "posts",
        "feature_requests",
        "nps",
        "comments",
        "reactions",
        "audit",
        "check posts",
        "elsewhere",
    )
    rows = [
        {
            "account": account,
            "day": day,
            "connection": name,
            "purpose": purpose,
            "requests": 1 + (day * place) % 6,
        }
        for day in range(today - 38, today + 1)
        for place, purpose in enumerate(purposes, 2)
    ]
    with database.write() as db:
        db.execute(insert(spends), rows)
        when = {"next_at": micros(now), "began_at": now - 40 * DAY, "level": 12.5, "level_at": micros(now)}
        db.execute(insert(accounts), [{"name": account, "refusals": 0, "drawn": 900, **when}])

"""`python -m tests.soak.many`: 200 connections on one PostgreSQL, synced by one `schedule` or by several.

Prints how late each sync was begun after it was due, and how long after the start each was first synced.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Event
from time import monotonic
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

from connector.cli.output import echo
from connector.sandbox import Company
from connector.state import runs, schema
from connector.state.engine import open_database
from tests.sandbox import Sandbox
from tests.soak.process import Daemon
from tests.soak.soak import SOON, TABLE

# Each of them is to be synced at least once in so many seconds.
PROMISED = 15 * 60
SMALL = Company(posts=12, requests=6, days=40, activity=0.4, nps_per_day=1.0)


@dataclass
class Seen:
    """Seconds: `first` from the start to the end of each first sync, `late` from due to begun, `gaps`."""

    first: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)
    requests: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def database(server: str) -> Iterator[str]:
    """An empty PostgreSQL database, dropped afterwards."""
    name = f"beamer_segment_many_{uuid4().hex[:12]}"
    url = make_url(server)
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'".encode())
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def many(
    url: str, folder: Path, *, connections: int, minutes: float, processes: int = 1, interval: str = "5m"
) -> Seen:
    """Let them run for so long, and look into the database."""
    seen, names = Seen(), [f"c{number:03}" for number in range(connections)]
    sandbox = Sandbox(SMALL, now=datetime.now(UTC).replace(microsecond=0), speed=1.0)
    sandbox.switches.rate_limit = sandbox.segment.rate_limit = None
    keys = {f"KEY_{name}": f"beamer-key-of-{name}" for name in names}
    sandbox.more_keys.update(keys.values())
    with ExitStack() as stack:
        database = open_database(url)
        stack.callback(database.close)
        schema.ready(database, datetime.now(UTC))
        served = stack.enter_context(sandbox.serve())
        tables = (TABLE.format(name=n, beamer=served.beamer_url, segment=served.segment_url) for n in names)
        (folder / "connector.toml").write_text("".join(tables))
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            **keys,
            "WRITE": sandbox.write_key,
            "BEAMER_PLAN": "pro",
            "BEAMER_REQUESTS_PER_SECOND": "1000",
            "SEGMENT_EVENTS_PER_SECOND": "none",
            "DATABASE_URL": url,
            "CONNECTOR_CONFIG": str(folder / "connector.toml"),
            "CONNECTOR_BIND": "127.0.0.1:0",
            "CONNECTOR_INTERVAL": interval,
        }
        began = datetime.now(UTC)
        daemons = []
        for number in range(processes):
            log = folder / f"{number}.log"
            daemons.append(Daemon("connector", ["schedule"], environ, log))
            stack.callback(daemons[-1].kill)
        pause, until = Event(), monotonic() + minutes * 60
        while monotonic() < until and all(each.process.poll() is None for each in daemons):
            pause.wait(0.5)
        for daemon in daemons:
            code, seconds = daemon.leave() if daemon.process.poll() is None else (-1, 0.0)
            if code != 0 or seconds > SOON:
                seen.wrong.append(f"one left with {code} after {seconds:.1f} s:\n{daemon.last_words}")
            seen.syncs.append(len(daemon.ended()))
            seen.late += [line["late"] for line in daemon.ended()]
            failed = [line for line in daemon.ended() if line["exit"] not in (0, 75)]
            seen.wrong += [f"{len(failed)} failed, such as {failed[0]}"] if failed else []
        seen.requests = len(sandbox.requests)
        ended = datetime.now(UTC)
        least = timedelta(seconds=_seconds(interval))
        for name in names:
            found = [run for run in runs.recent(database, name, 10_000) if run["command"] == "sync"]
            _judge(
                seen,
                name,
                sorted((run["started_at"], run["finished_at"]) for run in found),
                began,
                ended,
                least,
            )
        if sandbox.segment.duplicates:
            seen.wrong.append(f"{len(sandbox.segment.duplicates)} messages were sent twice")
    return seen


def _judge(
    seen: Seen,
    name: str,
    spans: list[tuple[datetime, datetime]],
    began: datetime,
    ended: datetime,
    least: timedelta,
) -> None:
    if not spans:
        seen.wrong.append(f"{name} was never synced")
        return
    seen.first.append((spans[0][1] - began).total_seconds())
    starts = [began, *(span[0] for span in spans), ended]
    seen.gaps += [(later - earlier).total_seconds() for earlier, later in pairwise(starts)]
    for earlier, later in pairwise(spans):
        if later[0] - earlier[0] < least:
            seen.wrong.append(f"{name} was synced twice: at {earlier[0]} and at {later[0]}")
    if max(seen.gaps) > PROMISED:
        seen.wrong.append(f"{name} was not synced for {max(seen.gaps):,.0f} s")


def _seconds(interval: str) -> float:
    return float(interval[:-1]) * {"s": 1, "m": 60, "h": 3600}[interval[-1]]


def show(seen: Seen) -> None:
    echo(f"syncs by process: {seen.syncs}; {seen.requests:,} requests")
    if seen.first:
        echo(f"first synced after: median {median(seen.first):.0f} s, worst {max(seen.first):.0f} s")
        echo(f"late after due: median {median(seen.late):.2f} s, worst {max(seen.late):.1f} s")
        echo(f"between two syncs of one: worst {max(seen.gaps):.0f} s")
    for each in seen.wrong:
        echo(f"WRONG: {each}")


def main() -> int:
    wanted = argparse.ArgumentParser(prog="tests.soak.many", description=__doc__)
    wanted.add_argument("--connections", type=int, default=200)
    wanted.add_argument("--minutes", type=float, default=20)
    wanted.add_argument("--processes", type=int, default=1)
    wanted.add_argument("--interval", default="5m")
    wanted.add_argument("--server", default="postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
    given = wanted.parse_args()
    with database(given.server) as url, tempfile.TemporaryDirectory() as folder:
        seen = many(
            url,
            Path(folder),
            connections=given.connections,
            minutes=given.minutes,
            processes=given.processes,
            interval=given.interval,
        )
    show(seen)
    return 1 if seen.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

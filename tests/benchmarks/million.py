"""A sync on a database that has seen a million rows, beside one of ten thousand: time, memory, bytes a row;
and how long it takes to look at it.

`python -m tests.benchmarks.million`. The account has a hundred parents in both, and the same is new in both;
the ids that differ in number were seen at parents of long ago, which Beamer no longer shows.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from sqlalchemy import func, insert, select

from connector.sandbox import Company
from connector.state.engine import Database, driver, open_database
from connector.state.tables import rows, runs, streams
from tests.benchmarks.start import timed
from tests.cli.process import ROOT, Machine, made_up

FEW, MANY = 10_000, 1_000_000
RUNS = 7
# So many runs are behind whoever looks at the database.
LOOKED = 10_000
CHUNK = 50_000
# What Beamer's ids look like (reference): eight digits, and 24 hex digits for NPS.
SHARE_OF_NPS = 0.2
LARGEST = 50.0
FIGURES = (("wall time", "seconds", "s"), ("CPU time", "cpu", "s"), ("peak memory", "megabytes", "MB"))

# By the driver itself, which takes a tenth of the time.
INSERT = f"INSERT INTO {rows.name} VALUES (:scope, :parent, :id, :verdict, :run)"  # noqa: S608 - a constant

# Peak memory is the child's own to tell: an `exec` afterwards would have counted this process's.
MEASURED = """
import json, resource, sys, time
from connector.cli import main
since = time.perf_counter()
sys.argv = ["beamer-segment", "sync"]
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
used = resource.getrusage(resource.RUSAGE_SELF)
figures = {"seconds": time.perf_counter() - since, "cpu": used.ru_utime + used.ru_stime}
print(json.dumps({"code": code, "megabytes": used.ru_maxrss / 1024, **figures}))
"""


def main() -> None:
    """Build both stores, sync each in turn, and print figures and ratios; exit 1 if an id is too heavy."""
    with tempfile.TemporaryDirectory() as folder:
        found = {count: Measured(Path(folder) / str(count), count) for count in (FEW, MANY)}
        for _ in range(RUNS):
            for each in found.values():  # in turn, so that a busy moment strikes both
                each.measure()
        few, many = found[FEW], found[MANY]
        for name, of, unit in FIGURES:
            one, other = few.median(of), many.median(of)
            say(
                f"{name:12} {FEW:,} rows: {one:.2f} {unit}; {MANY:,} rows: {other:.2f} {unit}; "
                f"ratio {other / one:.2f} (medians of {RUNS})"
            )
        for words in (("status",), ("explain", many.some_row)):
            took = many.checked(*words)
            say(f"{words[0]}: {took:.2f} s beside {MANY:,} rows and {LOOKED:,} runs (to be under 1 s)")
        say(f"ids: {many.bytes_a_row:.1f} bytes a row at {MANY:,} rows (to be under {LARGEST:.0f})")
        sys.exit(many.bytes_a_row >= LARGEST)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Measured:
    """An account whose store has seen so many rows, and what its syncs took."""

    def __init__(self, here: Path, count: int) -> None:
        here.mkdir()
        company = Company(posts=60, requests=40, days=90, activity=0.2, quiet=True)
        self._sandbox = made_up(company)
        self._served = self._sandbox.serve()
        file = here / "own.sqlite"
        self._machine = Machine(
            self._sandbox,
            self._served,
            here,
            f"sqlite:///{file}",
            {"SEGMENT_EVENTS_PER_SECOND": "none"},
        )
        assert self._machine.run("sync").code == 0
        database = open_database(str(self._machine.database_url))
        before = _bytes_of_ids(database)
        since = monotonic()
        fill(database, count)
        self.bytes_a_row = (_bytes_of_ids(database) - before) / count
        database.close()
        say(f"{count:,} rows put in within {monotonic() - since:.0f} s; {file.stat().st_size / 1e6:.1f} MB")
        self._taken: list[Mapping[str, float]] = []

    def measure(self) -> None:
        """One sync with a few dozen rows that are new."""
        world = self._sandbox.world
        with self._sandbox.lock:
            for post in world.posts_shown()[-5:]:
                for _ in range(4):
                    world.add("comments", post.id, userId="u-1")
        sent = len(self._sandbox.segment.messages)
        ended = subprocess.run(
            [sys.executable, "-c", MEASURED],
            cwd=ROOT,
            env={**self._machine.environment(), "LANG": os.environ.get("LANG", "C.UTF-8")},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        assert figures["code"] == 0
        assert len(self._sandbox.segment.messages) == sent + 20
        self._taken.append(figures)

    @property
    def some_row(self) -> str:
        return self._sandbox.world.rows("nps")[0].id

    def checked(self, *words: str) -> float:
        """Seconds from the start of a process that looks at the database to its end."""
        database = open_database(str(self._machine.database_url))
        with database.read() as db:
            missing = LOOKED - db.execute(select(func.count()).select_from(runs)).scalar_one()
        if missing > 0:
            make_runs(database, missing)
        database.close()
        return median(timed(self._machine, *words) for _ in range(RUNS))

    def median(self, of: str) -> float:
        return median(taken[of] for taken in self._taken)


def fill(database: Database, count: int) -> None:
    """Put in so many ids, through the real table, in the disorder in which years of syncs leave them."""
    with database.read() as db:
        scopes = {row.name: row.scope for row in db.execute(select(streams.c.name, streams.c.scope))}
    made = _ids(scopes, count)
    while chunk := list(islice(made, CHUNK)):
        random.Random(len(chunk)).shuffle(chunk)
        with database.write() as db:
            driver(db).executemany(INSERT, chunk)


def make_runs(database: Database, count: int) -> None:
    """More runs like the first, with a summary of the usual length."""
    with database.read() as db:
        like = dict(db.execute(runs.select().limit(1)).one()._mapping)
    del like["id"]
    assert len(like["summary"]) > 400
    with database.write() as db:
        db.execute(insert(runs), [like] * count)


def _ids(scopes: Mapping[str, int], count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(1)
    nps = int(count * SHARE_OF_NPS)
    for number in range(count):
        here = {"verdict": 1, "run": 1 + number // 500}
        if number < nps:
            yield {"scope": scopes["nps"], "parent": "0", "id": f"{rng.getrandbits(96):024x}", **here}
        else:
            stream = ("comments", "reactions", "feature_request_votes")[number % 3]
            parent = str(10_000_000 + rng.randrange(max(1, count // 100)))
            yield {"scope": scopes[stream], "parent": parent, "id": str(20_000_000 + number), **here}


def _bytes_of_ids(database: Database) -> int:
    """What the file holds, without what is free in it."""
    with database.read() as db:
        size, pages, free = (
            int(db.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_size", "page_count", "freelist_count")
        )
    return size * (pages - free)


if __name__ == "__main__":
    main()

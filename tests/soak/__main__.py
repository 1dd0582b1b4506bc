"""`python -m tests.soak --hours 60 --minutes 60`: 60 hours of life in an hour."""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from connector.cli.output import echo
from tests.soak.soak import Result, soak


def main() -> int:
    wanted = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    wanted.add_argument("--hours", type=float, default=60)
    wanted.add_argument("--minutes", type=float, default=60)
    wanted.add_argument("--seed", type=int, default=7)
    given = wanted.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(given.hours, given.minutes, Path(folder), given.seed)
    show(given.hours, given.minutes, result)
    return 1 if result.wrong else 0


def show(hours: float, minutes: float, result: Result) -> None:
    quarter = max(1, len(result.sizes) // 4)
    echo(f"{hours:g} hours in {minutes:g} minutes: {result.syncs:,} syncs, {result.failed:,} of them failed;")
    echo(f"  {result.requests:,} requests, {result.messages:,} events, {result.doubles} twice;")
    for name, sizes in (("second", result.sizes[quarter : 2 * quarter]), ("last", result.sizes[-quarter:])):
        if sizes:
            memory, files, threads = (
                median(getattr(size, what) for size in sizes) for what in ("memory", "files", "threads")
            )
            echo(f"  {name} quarter: {memory:,.0f} MB, {files:g} open files, {threads:g} threads;")
    echo(f"  SIGTERM: exit {result.exit} after {result.seconds_to_leave:.1f} s.")
    for each in result.wrong:
        echo(f"WRONG: {each}")


if __name__ == "__main__":
    sys.exit(main())

"""How long a sync with nothing to do takes, and `--help`: `python -m tests.benchmarks.start`."""

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic

from connector.sandbox import Company
from tests.cli.process import Machine
from tests.sandbox import Sandbox

RUNS = 10
SYNC_LIMIT = 1.5
HELP_LIMIT = 0.4


def main() -> None:
    """Measure from process start to exit, on SQLite, against an account of 60 posts and 30 requests."""
    company = Company(posts=60, requests=30, days=365, quiet=True)
    sandbox = Sandbox(company, now=datetime.now(UTC).replace(microsecond=0))
    with tempfile.TemporaryDirectory() as folder, sandbox.serve() as served:
        machine = Machine(sandbox, served, Path(folder), extra={"BEAMER_REQUESTS_PER_SECOND": ""})
        machine.run("sync")
        show("sync with nothing to do", [timed(machine, "sync") for _ in range(RUNS)], SYNC_LIMIT)
        show("--help", [timed(machine, "--help") for _ in range(RUNS)], HELP_LIMIT)


def timed(machine: Machine, *words: str) -> float:
    """Seconds from the start of a process to its end."""
    since = monotonic()
    ended = machine.run(*words)
    if ended.code:
        sys.exit(f"{words}: exit {ended.code}\n{ended.err}")
    return monotonic() - since


def show(what: str, seconds: list[float], limit: float) -> None:
    low, middle, high = min(seconds), median(seconds), max(seconds)
    sys.stdout.write(
        f"{what:26} median {middle:.2f} s, min {low:.2f}, max {high:.2f} (to be under {limit} s)\n"
    )


if __name__ == "__main__":
    main()

"""How fast history comes: `python -m tests.benchmarks.backfill`, whole processes over real sockets.

At the rate limit, with the latency of a real API: how much of it is used, and whether it is ever exceeded.
Without limit and latency: how fast the machine could be, and what it costs. And how much memory it takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any

from tests.benchmarks.history_server import Shape

# The first seconds, in which the first lists are found, are no measure of the rate.
RAMP_UP = 5.0

CASES = {
    "rate": [
        Shape(posts=500, comments=24, reactions=28, nps=2_000, latency=0.2, rate=30),
        Shape(posts=500, comments=24, reactions=28, nps=2_000, latency=0.3, rate=30),
    ],
    "nps": [Shape(nps=60_000)],
    "children": [Shape(posts=300, comments=35, reactions=35)],
    "tens": [Shape(posts=1_000, comments=10, reactions=10)],
    "memory": [
        Shape(posts=50, comments=35, reactions=35, nps=6_450),
        Shape(posts=1_500, comments=35, reactions=35, nps=193_500),
    ],
}


@dataclass(frozen=True)
class Measured:
    """One backfill: wall and CPU seconds, the largest resident memory in MB, and what the servers saw."""

    seconds: float
    cpu: float
    memory: float
    summary: dict[str, Any]
    seen: dict[str, Any]


@contextmanager
def served(shape: Shape) -> Iterator[tuple[dict[str, str], "subprocess.Popen[str]"]]:
    command = [sys.executable, "-m", "tests.benchmarks.history_server", json.dumps(asdict(shape))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        settings = json.loads(server.stdout.readline())
        settings.pop("shape")
        yield settings, server
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(30)
        assert server.stdout is not None
        server.stdout.close()


def asked(server: "subprocess.Popen[str]") -> dict[str, Any]:
    """What the servers have seen until now."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("seen\n")
    server.stdin.flush()
    found: dict[str, Any] = json.loads(server.stdout.readline())
    return found


def command(folder: Path) -> list[str]:
    words = ["backfill", "--since", "2020-01-01", "--yes", "--output", "json"]
    return [sys.executable, "-m", "connector", *words]


def environment(settings: dict[str, str], folder: Path, shape: Shape) -> dict[str, str]:
    mine = {
        "DATABASE_URL": f"sqlite:///{folder / 'state.sqlite'}",
        "LOG_LEVEL": "warning",
        **({} if shape.rate else {"BEAMER_REQUESTS_PER_SECOND": "1000"}),
        "SEGMENT_EVENTS_PER_SECOND": str(shape.events or "none"),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BEAMER", "SEGMENT"))}
    return {**kept, **settings, **mine}


def measure(shape: Shape) -> Measured:
    with served(shape) as (settings, server), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = monotonic()
        run = subprocess.Popen(
            command(folder), env=environment(settings, folder, shape), stdout=subprocess.PIPE, text=True
        )
        assert run.stdout is not None
        out = run.stdout.read()
        run.stdout.close()
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        seconds = monotonic() - begun
        assert status == 0, out
        summary = json.loads(out.splitlines()[-1])["connections"][0]
        seen = asked(server)
    assert seen["events"] == seen["ids"] == shape.rows, (seen["events"], seen["ids"], shape.rows)
    assert not seen["doubles"]
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, summary, seen)


def rate_of(moments: Sequence[float]) -> float:
    """Requests a second once it is under way, up to the last but one second."""
    begun, ended = moments[0] + RAMP_UP, moments[-1] - 1.0
    return sum(begun <= moment < ended for moment in moments) / (ended - begun)


def lines_of(name: str, shape: Shape, found: Measured) -> list[str]:
    requests = found.seen["beamer"]
    over = requests / shape.floor - 1
    head = f"{name}: {shape.rows:,} rows, {requests:,} requests (floor {shape.floor:,}, {over:+.1%})"
    lines = [
        head,
        f"  {found.seconds:.1f} s, {shape.rows / found.seconds:,.0f} rows/s; "
        f"CPU {found.cpu:.1f} s, {found.cpu / shape.rows * 1000:.2f} s per 1,000 rows; "
        f"at most {found.memory:.0f} MB",
    ]
    if shape.rate:
        share = rate_of(found.seen["at"]) / shape.rate
        least = shape.floor / shape.rate
        lines.append(
            f"  latency {shape.latency * 1000:.0f} ms, limit {shape.rate}/s: {share:.1%} of it used, "
            f"{found.seen['statuses'].get('429', 0)} × 429, wall time {found.seconds / least:.3f} of floor"
        )
    return lines


def kills(shape: Shape, times: int) -> list[str]:
    """A backfill killed again and again: every row once, and how many requests were asked twice."""
    with served(shape) as (settings, server), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(settings, folder, shape)
        killed = 0
        while killed < times:
            before = asked(server)["beamer"]
            run = subprocess.Popen(command(folder), env=env, stdout=subprocess.DEVNULL)
            while run.poll() is None and asked(server)["beamer"] < before + shape.floor // (times + 1):
                sleep(0.05)
            if run.poll() is not None:
                break
            run.kill()
            run.wait()
            killed += 1
        out = subprocess.run(command(folder), env=env, capture_output=True, text=True, check=True).stdout
        summary = json.loads(out.splitlines()[-1])["connections"][0]
        seen = asked(server)
    assert summary["backfill"]["finished_at"], summary
    assert seen["ids"] == shape.rows, (seen["ids"], shape.rows)
    return [
        f"killed {killed} times: {seen['ids']:,} of {shape.rows:,} rows arrived, "
        f"{seen['events'] - seen['ids']} twice; {seen['repeated']} requests asked again "
        f"({seen['repeated'] / max(1, killed):.1f} per kill), {seen['beamer']:,} in all (floor "
        f"{shape.floor:,})"
    ]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join([*CASES, 'kills'])}; all without")
    parser.add_argument("--times", type=int, default=1, help="how often each is measured; medians are told")
    given = parser.parse_args(words)
    for name in given.cases or [*CASES, "kills"]:
        if name == "kills":
            shape = Shape(posts=120, comments=24, reactions=28, nps=3_000, latency=0.05, rate=None)
            sys.stdout.write("\n".join(kills(shape, 10)) + "\n")
            continue
        for shape in CASES[name]:
            found = [measure(shape) for _ in range(given.times)]
            middle = median(each.seconds for each in found)
            best = min(found, key=lambda each: abs(each.seconds - middle))
            sys.stdout.write("\n".join(lines_of(name, shape, best)) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

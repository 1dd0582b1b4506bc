"""`kill -9` at a hundred moments of a sync, and where it was then: `python -m tests.stress.kills`.

One database, one account: each run is killed at its moment, the next one starts from what it left, and now
and then one is let through, after which everything has to be there, once. The moments are spread evenly
over the run; a stage that takes milliseconds, such as the record of a request, is hardly ever met so, and
is aimed at until it was met often enough.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from time import monotonic

from connector.sandbox import Company
from tests.cli.process import ROOT, Machine, made_up
from tests.stress.marked import STAGES

STAGES_THAT_COUNT = ("ledger", "page", "accept", "delivery")
# Of a hundred kills, so many at least in each stage.
LEAST = 10
LET_THROUGH_EVERY = 10
MOST = 200
SLICE = 0.001
# A stage that is aimed at is killed when it comes for the first time, the second, ...
FIRST_TIMES = 5
MARKS_AT_ONCE = 4096


@dataclass
class Kills:
    """What came of it: where each was killed; `whole` is how many seconds a run takes."""

    machine: Machine
    least: int = LEAST
    stages: Counter[str] = field(default_factory=Counter)
    whole: float = 0.0
    too_late: int = 0

    @property
    def enough(self) -> bool:
        return all(self.stages[stage] >= self.least for stage in STAGES_THAT_COUNT)

    def go(self, moments: int) -> None:
        """Kill at so many moments, spread evenly; then at each stage that was not met often enough.

        A run that is over before its moment is no kill; another one makes up for it.
        """
        assert self.machine.run("sync").code == 0
        self.let_through()
        done = 0
        while done < MOST and (self.stages.total() < moments or not self.enough):
            if self.stages.total() < moments:
                # Early and late ones take turns, so that what is left over never grows.
                share = (done % moments * 37 % moments + 0.5) / moments
                if self._run(share * self.whole) >= 0:
                    self.too_late += 1
                    self._run(0.9 * share * self.whole)
            else:
                rarest = min(STAGES_THAT_COUNT, key=lambda stage: self.stages[stage])
                self._run(None, (rarest, 1 + done % FIRST_TIMES))
            done += 1
            if done % LET_THROUGH_EVERY == 0:
                self.let_through()
        self.let_through()

    def let_through(self) -> None:
        """Let one finish, after which everything is there, once; and see how long one takes by now."""
        self.whole = self._run(None)
        assert self.whole >= 0
        self.machine.all_there_once()
        # One batch is sent for a dozen pages: with an answer that takes longer, it is met as often.
        self.machine.sandbox.faults.latency = min(2.0, max(0.25, 0.2 * self.whole))

    def _live(self) -> None:
        """As much that is new before each run: some thirty rows below twelve parents."""
        world = self.machine.sandbox.world
        user = {"userId": "u-1"}
        for post in world.posts_shown()[-4:]:
            for stream in ("comments", "reactions"):
                for _ in range(3):
                    world.add(stream, post.id, **user)
        for request in world.row_list("feature_requests").rows[-2:]:
            world.add("feature_request_votes", request.id, **user)
        world.add("nps", feedback="Good", **user)

    def _run(self, seconds: float | None, stage: tuple[str, int] | None = None) -> float:
        """Kill a run, and count where; -1, or how long it took if it was not killed.

        It is killed so many seconds after its first request, or when it comes to a stage for the nth time.
        """
        with self.machine.sandbox.lock:
            self._live()
        before = self.machine.asked()
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stress.marked", "sync"],
            cwd=ROOT,
            env={**self.machine.environment(), "MARKS": str(writing)},
            pass_fds=[writing],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        first_request, marks = inf, b""
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while process.poll() is None:
                if select([pipe], [], [], SLICE)[0]:
                    marks += pipe.read(MARKS_AT_ONCE) or b""
                if first_request == inf and self.machine.asked() > before:
                    first_request = monotonic()
                if seconds is not None and monotonic() - first_request >= seconds:
                    break
                if stage is not None and _times(marks, stage[0]) >= stage[1]:
                    break
            process.send_signal(signal.SIGKILL)
            code = process.wait()
            while more := pipe.read(MARKS_AT_ONCE):
                marks += more
        if code == 0:
            return max(0.0, monotonic() - first_request)
        assert code == -signal.SIGKILL, code
        self.stages[STAGES[marks.decode()[-1:] or "R"]] += 1
        return -1

    def histogram(self) -> str:
        total = self.stages.total()
        lines = [
            f"  {stage:14} {self.stages[stage]:4}  {'#' * self.stages[stage]}"
            for stage in (*STAGES_THAT_COUNT, "start and end")
        ]
        head = f"{total} kills, spread over the {self.whole:.2f} s from a sync's first request to its exit:"
        return "\n".join((head, *lines))


def _times(marks: bytes, stage: str) -> int:
    return sum(STAGES[mark] == stage for mark in marks.decode())


def kills(here: Path, url: str | None, moments: int = 100) -> Kills:
    """Kill so many syncs on one database; raises AssertionError where anything is lost or doubled."""
    sandbox = made_up(Company(posts=12, requests=6, days=40, activity=0.4, nps_per_day=1.0, quiet=True))
    sandbox.faults.apis, sandbox.faults.latency = ("segment",), 0.25
    with sandbox.serve() as served:
        found = Kills(
            Machine(sandbox, served, here, url, extra={"LOG_LEVEL": "error"}), moments * LEAST // 100
        )
        found.go(moments)
    return found


def main() -> None:
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with TemporaryDirectory() as folder:
        print(kills(Path(folder), os.environ.get("DATABASE_URL"), moments).histogram())  # noqa: T201


if __name__ == "__main__":
    main()

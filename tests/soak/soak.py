"""Days of two made-up accounts in an hour of `schedule`, with faults on: nothing lost, nothing grown."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from threading import Event
from time import monotonic

from connector.sandbox import Company
from tests.harness import expected, hold_still, landed
from tests.sandbox import Sandbox
from tests.soak.process import Daemon, Size

ACCOUNTS = 2
DAYS = 30
# What a daemon may take more in its last quarter than in its second: caches fill, free memory is kept.
MEMORY, FILES = 1.15, 8
SOON = 10.0
TABLE = """
[[connections]]
name = "{name}"
account = "{name}"
destination = "to.{name}"
api_key_env = "KEY_{name}"
write_key_env = "WRITE"
base_url = "{beamer}"
segment_host = "{segment}"
"""


@dataclass
class Result:
    """What was seen; `wrong` is what must not be."""

    sizes: list[Size] = field(default_factory=list)
    syncs: int = 0
    failed: int = 0
    requests: int = 0
    messages: int = 0
    doubles: int = 0
    exit: int = -1
    seconds_to_leave: float = 0.0
    wrong: list[str] = field(default_factory=list)


def company(seed: int) -> Company:
    """Lively, and without deletions: a deletion that cancels a new row out is found by an audit only."""
    return Company(seed=seed, posts=25, requests=12, days=40, activity=1.0, deletions=0.0)


def troubled(sandbox: Sandbox) -> None:
    """One request in fourteen goes wrong in one way or another."""
    faults = sandbox.faults
    faults.status_500 = faults.html_502 = faults.truncated = faults.reset_before = faults.reset_after = 0.012
    faults.html_200 = faults.busy = faults.hang = 0.003
    faults.busy_for, faults.hang_seconds = 2, 2.0
    faults.latency = (0.0, 0.01)


def soak(hours: float, minutes: float, folder: Path, seed: int = 7) -> Result:
    """So many hours of life in so many minutes."""
    speed, result, started = hours * 60 / minutes, Result(), datetime.now(UTC).replace(microsecond=0)
    with ExitStack() as stack:
        since = monotonic()
        boxes = [
            Sandbox(company(seed + number), now=started, speed=speed, plan="pro")
            for number in range(ACCOUNTS)
        ]
        tables = ""
        for number, box in enumerate(boxes):
            box.switches.rate_limit = box.segment.rate_limit = None
            troubled(box)
            served = stack.enter_context(box.serve())
            tables += TABLE.format(name=f"s{number}", beamer=served.beamer_url, segment=served.segment_url)
        (folder / "connector.toml").write_text(tables)
        start = started.replace(hour=0, minute=0, second=0) - timedelta(days=DAYS)
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            **{f"KEY_s{number}": box.api_key for number, box in enumerate(boxes)},
            "WRITE": boxes[0].write_key,
            "BEAMER_PLAN": "pro",
            "BEAMER_REQUESTS_PER_SECOND": "1000",
            "SEGMENT_EVENTS_PER_SECOND": "none",
            "BEAMER_START_DATE": start.isoformat(),
            "CONNECTOR_CONFIG": str(folder / "connector.toml"),
            "CONNECTOR_BIND": "127.0.0.1:0",
        }
        words = (started.isoformat(), str(speed), str(since))
        daemon = Daemon("tests.soak.daemon", words, environ, folder / "daemon.log")
        stack.callback(daemon.kill)
        _watch(daemon, result, minutes * 60)
        for box in boxes:
            # Nothing new from now on, and no more trouble: what is left is to be brought.
            with box.lock:
                box.faults.clear()
                hold_still(box)
        _finish(daemon, boxes, start, result, speed)
        _judge(daemon, boxes, start, result)
    return result


def _watch(daemon: Daemon, result: Result, seconds: float) -> None:
    pause, every, until = Event(), max(0.5, seconds / 240), monotonic() + seconds
    while monotonic() < until and daemon.process.poll() is None:
        pause.wait(every)
        if daemon.url is None:
            continue
        result.sizes.append(daemon.size)
        if daemon.get("/healthz") != 200:
            result.wrong.append("not healthy")
        if daemon.get("/metrics") != 200 or daemon.get("/") != 200:
            result.wrong.append("a page failed")


def _finish(daemon: Daemon, boxes: list[Sandbox], start: datetime, result: Result, speed: float) -> None:
    """Wait until all is there: a few turns, or as long as an account may be closed by then."""
    pause, until = Event(), monotonic() + 30 + timedelta(hours=7).total_seconds() / speed
    while monotonic() < until and daemon.process.poll() is None:
        if all(not missing(box, start) for box in boxes):
            return
        pause.wait(0.5)


def missing(box: Sandbox, start: datetime) -> int:
    """How many rows' events have not arrived."""
    with box.lock:
        return len(expected(box, start).keys() - landed(box).keys())


def _judge(daemon: Daemon, boxes: list[Sandbox], start: datetime, result: Result) -> None:
    wrong = result.wrong
    if daemon.process.poll() is not None:
        wrong.append(f"it ended by itself:\n{daemon.last_words}")
        return
    result.exit, result.seconds_to_leave = daemon.leave()
    if result.exit != 0 or result.seconds_to_leave > SOON:
        wrong.append(
            f"it left with {result.exit} after {result.seconds_to_leave:.1f} s:\n{daemon.last_words}"
        )
    syncs = daemon.ended()
    result.syncs, result.failed = len(syncs), sum(line["exit"] != 0 for line in syncs)
    if crashed := [
        line for line in daemon.lines if line["event"] in ("job_crashed", "run_crashed", "page_failed")
    ]:
        wrong.append(f"crashes: {crashed[:3]}")
    for box in boxes:
        result.requests += len(box.requests)
        result.messages += len(box.segment.messages)
        result.doubles += sum(count > 1 for count in landed(box).values())
        if lost := missing(box, start):
            wrong.append(f"{lost} rows have not arrived")
    if result.doubles:
        wrong.append(f"{result.doubles} rows arrived twice")
    _judge_growth(result)


def _judge_growth(result: Result) -> None:
    quarter = len(result.sizes) // 4
    if quarter < 2:
        result.wrong.append("too short to see whether it grows")
        return
    early, late = result.sizes[quarter : 2 * quarter], result.sizes[-quarter:]
    for what, most in (("memory", MEMORY), ("files", None), ("threads", None)):
        before = median(getattr(size, what) for size in early)
        after = median(getattr(size, what) for size in late)
        if after > (before * most if most else before + FILES):
            result.wrong.append(f"{what} grew from {before:,.0f} to {after:,.0f}")

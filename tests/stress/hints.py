"""How webhooks are taken: `python -m tests.stress.hints`.

Measured are how soon comments arrive, how soon a webhook is answered, and what a flood of forged ones costs.
A sandbox in real time (Free, 60 posts, 30 feature requests, quiet), `schedule` as a process, and comments
that appear at random moments; then requests with a wrong secret, as fast as wanted, while syncs go on.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from os import sysconf
from pathlib import Path
from random import Random
from socket import create_connection
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic, process_time

from connector.sandbox import Company, Sandbox
from connector.sandbox.webhooks import SECRET, event_of, post
from tests.benchmarks.quota_month import percentile
from tests.cli.process import Machine, until
from tests.cli.test_cli_schedule import Daemon, metrics, schedule
from tests.harness import hold_still
from tests.sandbox import Sandbox as Editable

SETTINGS = {
    "BEAMER_PLAN": "free",
    "BEAMER_WEBHOOK_SECRET": SECRET,
    # As after a quiet week: requests are available.
    "BEAMER_STARTUP_SHARE": "100%",
    "BEAMER_START_DATE": "",
    # Not as fast as in other tests: after many 429, the account would be left alone for minutes.
    "BEAMER_REQUESTS_PER_SECOND": "",
}


LIST = "/posts/{}/comments"


def sandbox() -> Editable:
    now = datetime.now(UTC).replace(microsecond=0)
    made = Editable(Company(posts=60, requests=30, days=120, activity=0.2), plan="free", now=now, speed=1.0)
    hold_still(made)
    return made


def comments(machine: Machine, count: int, mean: float, rng: Random) -> list[tuple[str, str, float]]:
    """Let comments appear, so many seconds apart on average; return (post, id, moment)."""
    world, waiting, made = machine.sandbox.world, Event(), []
    for _ in range(count):
        waiting.wait(rng.expovariate(1 / mean))
        with machine.sandbox.lock:
            machine.sandbox.advance(machine.sandbox.now() - machine.sandbox.now())
            parent = rng.choice(world.posts_shown()[:50]).id
            made.append((parent, world.add("comments", parent, userId="u-1"), monotonic()))
    return made


class Arrivals:
    """When each comment's event came to Segment, by a look every tenth of a second."""

    def __init__(self, box: Sandbox) -> None:
        self.at: dict[str, float] = {}
        self._box, self._over = box, Event()
        Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        seen = 0
        while not self._over.wait(0.1):
            messages = self._box.segment.messages
            for message in messages[seen:]:
                if message["event"] == "Post Commented":
                    self.at.setdefault(message["properties"]["comment_id"], monotonic())
            seen = len(messages)

    def close(self) -> None:
        self._over.set()


def delays(machine: Machine, daemon: Daemon, count: int, mean: float) -> str:
    """Return the delays of so many comments, and the requests that they took."""
    url = f"{daemon.url}/webhooks/beamer/default"
    arrivals = Arrivals(machine.sandbox)
    with closing(machine.sandbox.send_webhooks(url)), closing(arrivals):
        before = len(machine.sandbox.requests)
        made = comments(machine, count, mean, Random(7))
        until(lambda: {row for _, row, _ in made} <= arrivals.at.keys(), 120)
    found = sorted(arrivals.at[row] - at for _, row, at in made)
    asked = Counter(seen.path for seen in machine.sandbox.requests[before:] if seen.api == "beamer")
    titles = Counter(shown.title for shown in machine.sandbox.world.posts_shown())
    posts = Counter(parent for parent, _, _ in made)
    alone = {name for name in posts if titles[machine.sandbox.world._by_id["posts"][name].title] == 1}
    of_one = Counter(asked[LIST.format(name)] for name in alone if posts[name] == 1)
    return (
        f"{count} comments ({sum(posts[name] for name in alone)} at a post whose title no other has): "
        f"{_spread(found, '.1f', 's')}; "
        f"{sum(asked[LIST.format(name)] for name in posts)} requests for {len(posts)} hinted lists, of these "
        f"{_times(of_one)} for lists with one new comment and a title of their own; "
        f"{asked.total()} requests in all"
    )


def _times(of_one: Counter[int]) -> str:
    return ", ".join(f"{requests} × {count}" for requests, count in sorted(of_one.items()))


def answers(machine: Machine, daemon: Daemon, count: int, pause: float) -> str:
    """Return how long webhooks of a comment that is known waited for their 202."""
    url, waiting, took = f"{daemon.url}/webhooks/beamer/default", Event(), []
    row = machine.sandbox.world.rows("comments")[0]
    for _ in range(count):
        waiting.wait(pause)
        began = monotonic()
        status = post(url, [event_of(row)])
        took.append(1_000 * (monotonic() - began))
        if status != 202:
            return f"a webhook was answered with {status}"
    took.sort()
    return f"{count} webhooks answered with 202: {_spread(took, '.0f', 'ms')}"


def _spread(ordered: Sequence[float], form: str, unit: str) -> str:
    values = {
        "median": median(ordered),
        "95th percentile": percentile(ordered, 0.95),
        "longest": ordered[-1],
    }
    return ", ".join(f"{name} {value:{form}} {unit}" for name, value in values.items())


FORGED = (
    b"POST /webhooks/beamer/default HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Beamer-Webhook-Secret: forged\r\nContent-Length: 14\r\n\r\n[{"score": 9}]'
)


def forge(port: int, per_second: int, seconds: float) -> tuple[Counter[str], float, float]:
    """Send forged requests, a connection each; return the answers, how long that took, and the CPU time."""
    answers, began, threads = Counter[str](), monotonic(), 16

    def send(number: int) -> None:
        for turn in range(int(per_second * seconds / threads)):
            Event().wait(max(0.0, began + (turn * threads + number) / per_second - monotonic()))
            try:
                with create_connection(("127.0.0.1", port), 10) as connection:
                    connection.sendall(FORGED)
                    answers[connection.recv(1_000)[9:12].decode()] += 1
            except OSError:
                answers["none"] += 1

    senders = [Thread(target=send, args=(number,)) for number in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return answers, monotonic() - began, process_time()


def flood(daemon: Daemon, machine: Machine, per_second: int, seconds: float) -> str:
    """Send forged requests from a process of their own, and say what came of them."""
    pid = daemon.running.process.pid
    port = int(daemon.url.rpartition(":")[2])
    before, spent, memory = metrics(daemon), machine.asked(), resident(pid)
    arrivals = Arrivals(machine.sandbox)
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        closing(machine.sandbox.send_webhooks(f"{daemon.url}/webhooks/beamer/default")),
        closing(arrivals),
    ):
        pool.submit(int).result()
        busy, sent = cpu(pid), pool.submit(forge, port, per_second, seconds)
        ((_, row, at),) = comments(machine, 1, 0.1, Random(8))
        answers, took, own = sent.result()
        busy = cpu(pid) - busy
        until(lambda: row in arrivals.at, 120)
    after = metrics(daemon)
    runs = sum(after[key] - before.get(key, 0) for key in after if key.startswith("schedule_runs_total"))
    return (
        f"{answers.total()} forged requests in {took:.1f} s ({answers.total() / took:.0f} a second), "
        f"answered {dict(answers)}; CPU of the daemon {busy:.1f} s, of the sender {own:.1f} s; "
        f"memory {memory} → {resident(pid)} MB; a comment of the first second arrived after "
        f"{arrivals.at[row] - at:.1f} s; {runs:.0f} runs meanwhile, "
        f"{machine.asked() - spent} requests to Beamer"
    )


def cpu(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Return a process's memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 // 1_000_000


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.hints", description=__doc__)
    parser.add_argument("--comments", type=int, default=50)
    parser.add_argument("--apart", type=float, default=12.0, help="seconds from one to the next, on average")
    parser.add_argument("--answers", type=int, default=100, help="webhooks whose answer is timed")
    parser.add_argument("--forged", type=int, default=1_000, help="forged requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args(words)
    box = sandbox()
    with TemporaryDirectory() as folder, box.serve() as served:
        machine = Machine(box, served, Path(folder), extra=SETTINGS)
        with schedule(machine, "--interval", "60s") as daemon:
            until(lambda: bool(daemon.ended()), 120)
            if given.comments:
                sys.stdout.write(delays(machine, daemon, given.comments, given.apart) + "\n")
            if given.answers:
                sys.stdout.write(answers(machine, daemon, given.answers, 0.2) + "\n")
            if given.forged:
                sys.stdout.write(flood(daemon, machine, given.forged, given.seconds) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

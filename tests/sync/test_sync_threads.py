"""Real threads and real sockets."""

import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread, Timer, get_ident
from typing import Any

from connector.beamer.client import BeamerClient
from connector.beamer.pagination import Answer
from connector.cli.exit_codes import stopping
from connector.clock import SystemClock, timer
from connector.domain.budget import Limits
from connector.sandbox import Company, Served
from connector.segment.client import SegmentClient
from connector.sync.delivery import ThreadedDelivery
from connector.sync.run import Outcome, Run
from connector.sync.threads import ThreadPool
from tests.harness import Rig, sandbox
from tests.sandbox import Sandbox


def account(seed: int, **options: Any) -> Sandbox:
    company = Company(seed=seed, posts=25, requests=12, days=40, activity=0.3, deletions=0.0)
    box = sandbox(company=company, **options)
    box.switches.rate_limit = None
    return box


def threaded(rig: Rig, served: Served) -> Outcome:
    beamer = BeamerClient(rig.sandbox.api_key, served.beamer_url, rig.clock)
    segment = SegmentClient(rig.sandbox.write_key, served.segment_url)
    try:
        return Run(replace(rig.context(), beamer=beamer, segment=segment, pool=ThreadPool(4, rig.clock))).go()
    finally:
        beamer.close()


def test_four_threads_over_sockets_send_each_row_once(tmp_path: Path) -> None:
    box = account(3)
    box.faults.apis = ("beamer",)
    box.faults.reset_after = box.faults.status_500 = box.faults.truncated = 0.01
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(None, 0, 1_000))
    with box.serve() as served:
        first = threaded(rig, served)
        box.faults.clear()
        box.advance(timedelta(days=1))
        second = threaded(rig, served)
    assert (first.exit, second.exit) == (0, 0)
    assert first.report.sent > 100
    rig.check()
    rig.close()


def test_a_thread_that_never_comes_back_does_not_keep_the_others() -> None:
    pool, held = ThreadPool(2, SystemClock()), Event()

    def hang() -> Answer:
        held.wait(5)
        return Answer([], None)

    stuck, quick = pool.submit(hang), pool.submit(lambda: Answer([1], None))
    assert pool.landed([stuck, quick], 5) == {quick}
    assert pool.landed([stuck], 0.01) == set()
    held.set()
    assert pool.landed([stuck], 5) == {stuck}
    assert stuck.result().body == []


def test_an_error_in_a_thread_comes_out_where_it_is_settled() -> None:
    pool = ThreadPool(1, SystemClock())

    def fail() -> Answer:
        raise KeyError("x")

    flight = pool.submit(fail)
    pool.landed([flight], 5)
    assert isinstance(flight.exception(), KeyError)
    assert pool.submit(lambda: Answer(None, None)).result(5).body is None


class Slow:
    """A delivery that takes as long as it is held; `found` is how much it saw when it began."""

    def __init__(self) -> None:
        self.begun, self.free = Event(), Event()
        self.written = 1
        self.found: list[int] = []

    def run(self, *, whole: bool) -> None:  # noqa: ARG002
        self.found.append(self.written)
        self.begun.set()
        assert self.free.wait(5)


def test_what_was_written_during_the_last_delivery_is_delivered_too() -> None:
    slow = Slow()
    worker = ThreadedDelivery(slow)  # type: ignore[arg-type]
    worker.go()
    assert slow.begun.wait(5)
    slow.written = 2
    ending = Thread(target=worker.finish)
    ending.start()
    assert worker._wanted.wait(5)
    slow.free.set()
    ending.join(5)
    assert slow.found[-1] == 2
    assert worker.error is None


def test_a_signal_that_wakes_nobody_ends_a_wait_soon() -> None:
    # As one that comes between Python's last check for signals and the system call that waits.
    clock, elapsed = SystemClock(), timer()
    with stopping(clock) as code:
        other = Thread(target=lambda: signal.pthread_kill(get_ident(), signal.SIGTERM))
        waking = Timer(0.1, other.start)
        waking.start()
        clock.sleep(60)
        assert code() == 143
    assert elapsed() < 30

"""Real threads and real sockets."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

from connector.beamer.door import Answer, Beamer
from connector.clock import SystemClock
from connector.sandbox import Company, Sandbox
from connector.sandbox.served import Served
from connector.segment.door import Segment
from connector.state.ledger import Limits
from connector.sync.pool import ThreadPool
from connector.sync.run import Outcome, Run
from tests.harness import Rig, sandbox


def account(seed: int, **options: Any) -> Sandbox:
    company = Company(seed=seed, posts=25, requests=12, days=40, activity=0.3, deletions=0.0)
    box = sandbox(company=company, **options)
    box.switches.rate_limit = None
    return box


def threaded(rig: Rig, served: Served) -> Outcome:
    beamer = Beamer(rig.sandbox.api_key, served.beamer_url, rig.clock)
    segment = Segment(rig.sandbox.write_key, served.segment_url)
    try:
        return Run(replace(rig.parts(), beamer=beamer, segment=segment, pool=ThreadPool(4, rig.clock))).go()
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

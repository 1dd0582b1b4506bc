"""A daemon makes parts for each run: nothing of them may be left."""

import threading
from concurrent.futures import Future

from connector.beamer.pagination import Answer
from connector.clock import SystemClock
from connector.sync.threads import ThreadPool
from tests.cli.process import until


def fetching() -> int:
    return sum(thread.name == "fetch" for thread in threading.enumerate())


def test_threads_end_with_their_pool() -> None:
    before = fetching()
    pool = ThreadPool(4, SystemClock())
    flights: list[Future[Answer]] = [pool.submit(lambda: Answer([], None)) for _ in range(8)]
    assert {flight.result(5).date for flight in flights} == {None}
    assert fetching() == before + 4
    pool.close()
    until(lambda: fetching() == before)


def test_what_is_under_way_when_it_closes_still_ends() -> None:
    free, pool = threading.Event(), ThreadPool(1, SystemClock())

    def waits() -> Answer:
        free.wait(5)
        return Answer([], None)

    flight = pool.submit(waits)
    pool.close()
    free.set()
    assert flight.result(5).body == []

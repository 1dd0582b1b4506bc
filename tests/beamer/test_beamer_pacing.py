"""This process's own pace: never more than the rate in any second, however late the threads are."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from connector.beamer.client import WINDOW, Pacer

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Time:
    """A clock that waiting moves."""

    def __init__(self) -> None:
        self.at = NOW
        self.stopped = False
        self.lock = threading.Lock()

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            with self.lock:
                self.at += timedelta(seconds=seconds)


def sent(pacer: Pacer, time: Time, moments: list[datetime]) -> list[datetime]:
    found = []
    for moment in moments:
        place = pacer.wait(moment)
        found.append(time.now())
        pacer.sent(place)
    return found


def test_requests_that_are_all_late_do_not_bunch_up() -> None:
    time = Time()
    moments = sent(Pacer(30, time), time, [NOW] * 95)
    for first, thirty_first in zip(moments, moments[30:], strict=False):
        assert thirty_first - first >= WINDOW
    assert moments[-1] - NOW < 3.2 * WINDOW


def test_a_request_waits_for_its_own_moment() -> None:
    time = Time()
    due = [NOW + timedelta(seconds=second) for second in (1, 2, 3)]
    assert sent(Pacer(30, time), time, due) == due


def test_a_clock_set_back_holds_nobody_up() -> None:
    time = Time()
    pacer = Pacer(2, time)
    sent(pacer, time, [NOW] * 2)
    time.at -= timedelta(hours=1)
    back = time.now()
    pacer.wait(back)
    assert time.now() == back


def test_the_window_counts_from_when_a_request_was_sent() -> None:
    """One that took its place and was held up, by the interpreter or a new connection, comes late."""
    time = Time()
    pacer = Pacer(2, time)
    late, punctual = pacer.wait(NOW), pacer.wait(NOW)
    pacer.sent(punctual)
    time.sleep(0.4)
    pacer.sent(late)
    pacer.wait(NOW)
    assert time.now() - NOW == timedelta(seconds=0.4) + WINDOW


def test_nobody_takes_the_place_of_a_request_that_is_not_sent_yet() -> None:
    time = Time()
    pacer = Pacer(1, time)
    first = pacer.wait(NOW)
    second = threading.Thread(target=pacer.wait, args=(NOW,))
    second.start()
    while time.now() < NOW + 3 * WINDOW:
        pass
    assert second.is_alive()
    pacer.sent(first)
    second.join(10)
    assert not second.is_alive()


def test_a_stop_ends_the_wait() -> None:
    time = Time()
    pacer = Pacer(1, time)
    pacer.sent(pacer.wait(NOW))
    time.stopped = True
    pacer.wait(NOW)
    assert time.now() - NOW <= WINDOW


def test_threads_share_one_window() -> None:
    time = Time()
    pacer, moments, lock = Pacer(5, time), [], threading.Lock()

    def send() -> None:
        for _ in range(5):
            place = pacer.wait(NOW)
            with lock:
                moments.append(time.now())
            pacer.sent(place)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(moments) == 20
    assert time.now() - NOW >= 3 * WINDOW
    assert all(a <= b + WINDOW for a, b in pairwise(moments))

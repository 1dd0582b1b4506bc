"""When what failed is requested again: a request after seconds, a list after hours; without I/O."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from connector.beamer.streams import Stream
from connector.domain.period import SECOND
from connector.domain.state import ChildState, ParentState, Progress, StreamState
from connector.errors import Transient

ATTEMPTS = 4
FIRST_RETRY = 1.0
LONGEST_RETRY = 30.0


def wait_before(attempt: int, error: Transient, chance: float) -> float | None:
    """Return seconds to wait after the `attempt`-th failure (from 1), or None to give up.

    Exponential; `chance`, from 0 to 1, jitters its upper half; the server's own wish is a lower bound.
    """
    if attempt >= ATTEMPTS or not error.again:
        return None
    ceiling = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** (attempt - 1))
    jittered: float = ceiling * (0.5 + chance / 2)
    return max(error.after or 0.0, jittered)


FIRST_WAIT = timedelta(hours=1)
LONGEST_WAIT = timedelta(days=1)
# The next run tries again after one failure.
FREE = 1
# A post's list that Beamer does not know (404) belongs to a post that is gone, which the next check shows.
UNKNOWN = 2
# While nothing at all is answered it is Beamer that is away, and no list of its own.
AT_MOST_WHILE_AWAY = 2
# So many lists of one stream that failed since one was read last: it is the stream that fails.
LISTS_OF_A_STREAM = 3
# A right that a key does not have is seldom given within hours: what it may not read is asked for once a day.
RETRY_FORBIDDEN_AFTER = timedelta(days=1)

State = TypeVar("State", StreamState, ParentState, ChildState)


def wait_after(failures: int) -> timedelta:
    """Return how long to leave alone what has failed so many times in a row."""
    doubled = min(max(failures - FREE - 1, 0), 10)
    return min(LONGEST_WAIT, FIRST_WAIT * 2**doubled) if failures > FREE else timedelta(0)


def in_backoff(state: StreamState | ParentState | ChildState, now: datetime) -> bool:
    """Return whether it is left alone for now."""
    # A clock that was set back must not make anything rest for longer.
    return state.failed_at is not None and state.failed_at <= now < state.failed_at + wait_after(
        state.failures
    )


def of_block(members: Iterable[ParentState]) -> ParentState | None:
    """Return what stands for a block: a page of it that fails makes all its members fail."""
    return min(members, key=lambda parent: parent.failures, default=None)


def is_skipped(progress: Progress, stream: Stream, now: datetime) -> bool:
    """Return whether a stream may not be read, or always fails: then it is asked now and then only."""
    state = progress.streams[stream.name]
    if state.forbidden_since(now - RETRY_FORBIDDEN_AFTER):
        return True
    if stream.parent is None:
        return in_backoff(state, now)
    return list_in_backoff(progress.children.get(stream.name, {}).values(), now)


def list_in_backoff(lists: Iterable[ChildState], now: datetime) -> bool:
    """Return whether all lists of a stream are left alone for now: not one but all of them fail."""
    lists = list(lists)
    failing = [(child.failed_at, child.failures) for child in lists if child.failed_at]
    if len(failing) < LISTS_OF_A_STREAM:
        return False
    read = max((child.read_at for child in lists if child.read_at), default=None)
    since = [(at, failures) for at, failures in failing if (read is None or at > read) and at <= now]
    if len(since) < LISTS_OF_A_STREAM:
        return False
    # How many there are tells nothing while Beamer is away, for then each run fails at another one.
    worst = max(LISTS_OF_A_STREAM, *(failures for _, failures in since))
    return now < max(at for at, _ in since) + wait_after(min(len(since), worst))


def failed(state: State, now: datetime, *, answered: bool, at_least: int = 1) -> State:
    """It failed once more; `answered`: something else was, since it failed the last time."""
    failures = max(state.failures + 1, at_least)
    if not answered:
        failures = min(failures, max(state.failures, AT_MOST_WHILE_AWAY))
    return replace(state, failures=failures, failed_at=now)


def recovered(state: State) -> State:
    """It was answered."""
    return replace(state, failures=0, failed_at=None) if state.failures else state


def comes_last(progress: Progress, state: StreamState | ParentState | ChildState) -> bool:
    """Return whether all else comes first: it failed, and nothing was looked at since.

    Where a run has one request at hand, the one that fails must not be all that is ever asked.
    """
    return state.failures > 0 and not answered_since(progress, state.failed_at)


def answered_since(progress: Progress, moment: datetime | None) -> bool:
    """Return whether anything was looked at since then."""
    checks = (state.checked_at for state in progress.streams.values())
    # Beamer's clock tells seconds: what was looked at just after the failure may be dated before it.
    return moment is not None and any(at > moment - SECOND for at in checks if at)

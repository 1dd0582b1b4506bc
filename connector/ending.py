"""How a command ends: with an exit code, and where JSON was asked for, always with one object of it."""

import _thread
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from typer import Abort, BadParameter

from connector.clock import SystemClock
from connector.errors import ConnectorError, Exit, Misused, Unanswered, Unsaid
from connector.output import as_json, complain, explain, explain_unexpected, finish

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The worst first, as several connections end differently.
WORST_FIRST = (78, 1, 69, 77, 65, 75)

# What the parser raises: the older typer has it from click, which this is found without.
UsageError: Any = BadParameter.__base__

# Standard input, output and error are the files 0, 1 and 2.
LAST_STANDARD = 2


class Signalled(SystemExit):
    """A signal that ends the process where it stands; the store's transaction in hand is rolled back."""


def worst(codes: Iterable[int]) -> int:
    """The exit code of several parts that ended with these."""
    found = set(codes)
    return next((code for code in WORST_FIRST if code in found), max(found, default=0))


@contextmanager
def stopping(clock: SystemClock, *, second_at_once: bool = False) -> Iterator[Callable[[], int]]:
    """Let a signal end the work cleanly; the page and the batch in hand are finished.

    `second_at_once`: a second signal ends the process where it stands, as `kill -9` would.
    """
    received: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        received.append(number)
        if second_at_once and len(received) > 1:
            os._exit(128 + number)
        # In a thread: the signal may have come while this one holds the lock inside the clock's event.
        _thread.start_new_thread(clock.stop, ())

    before = {number: signal.signal(number, stop) for number in _heeded()}
    try:
        yield lambda: 128 + received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> list[signal.Signals]:
    """All of them; but who is to go on without a terminal (nohup) is not told to stop with it."""
    hung_up_on = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [number for number in SIGNALS if hung_up_on or number is not signal.SIGHUP]


def run(command: Callable[[], int | None], words: Sequence[str], groups: Collection[str] = ()) -> None:
    """Run a command, which gives its exit code; every error ends in a sentence and an exit code.

    `words` are those of the command line; of a command in one of `groups` the first two are its name.
    """
    name = _name(words, groups)
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign is no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in _heeded():
        signal.signal(number, _leave)
    code = _run(command, words, name)
    if unsaid := finish():
        error = Unsaid(f"Standard output could not be written: {unsaid}.")
        explain(error)
        code = code or error.exit
    sys.exit(code)


def _run(command: Callable[[], int | None], words: Sequence[str], name: str) -> int:
    try:
        return command() or 0
    except Signalled as signalled:
        return _end_by(signalled, words, name)
    except UsageError as error:
        complain(_shown(error))
        return _end(words, name, Exit.USAGE, Misused(error.format_message()).as_dict())
    except Abort:
        unanswered = Unanswered("A question was not answered with yes.")
        if sys.stdin.isatty():
            complain("Aborted!")
        else:
            complain("")  # the question is still on this line
            explain(unanswered)
        return _end(words, name, unanswered.exit, unanswered.as_dict())
    except ConnectorError as error:
        explain(error)
        return _end(words, name, error.exit, error.as_dict())
    except Exception as error:
        if behind := _signal_behind(error):
            return _end_by(behind, words, name)
        explain_unexpected(error)
        return _end(words, name, Exit.UNEXPECTED, unexpected(error))


def _shown(error: Any) -> str:
    """What the parser itself would print of an error: how the command is used, and what is wrong."""
    lines = StringIO()
    error.show(lines)
    return lines.getvalue().rstrip()


def _open_closed() -> None:
    """Let a stream that was closed (`>&-` in a crontab) be /dev/null."""
    # By their numbers, too: or the store's file gets one of them, and what is written to it goes there.
    while (number := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD:
        pass
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def unexpected(error: BaseException) -> dict[str, str]:
    """An error nobody foresaw, as JSON: its own text may hold a row or a key."""
    return {"code": "BS-001", "what": f"unexpected {type(error).__name__}"}


def _signal_behind(error: BaseException | None) -> Signalled | None:
    """Python puts an error of its own around what is raised while a class is being made."""
    while error is not None and not isinstance(error, Signalled):
        error = error.__cause__ or error.__context__
    return error


def _end_by(signalled: Signalled, words: Sequence[str], name: str) -> int:
    complain("stopped by a signal")
    return _end(words, name, int(str(signalled.code)), None)


def _name(words: Sequence[str], groups: Collection[str]) -> str:
    """What the command is called: its arguments, which may be a person's id, are no part of it."""
    parts = 2 if words and words[0] in groups else 1
    return " ".join(takewhile(lambda word: not word.startswith("-"), words[:parts]))


def _leave(number: int, _frame: Any) -> None:
    raise Signalled(128 + number)


def _end(words: Sequence[str], name: str, code: int, error: Mapping[str, str] | None) -> int:
    if "--output=json" in words or ("--output", "json") in pairwise(words):
        as_json({"command": name, "exit": int(code), "error": error})
    return int(code)

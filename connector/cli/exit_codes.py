"""How a command exits: with an exit code and, if JSON was requested, with one JSON object in any case."""

import _thread
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from typer import Abort, BadParameter

from connector.cli.output import document, echo_err, echo_json, error_dict, exit_of, print_error
from connector.clock import SystemClock
from connector.errors import ConnectorError, Exit, Misused, NotConfirmed, OutputFailed
from connector.terminal import finish

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# If connections exit differently, the command exits with the first of these codes.
WORST_FIRST = (78, 1, 69, 77, 65, 75)

# What the parser raises. Newer versions of typer do not depend on click, so it cannot be imported.
UsageError: Any = BadParameter.__base__

# Why the parser refused a value, by pydantic's names. Older versions of typer do not use pydantic.
REFUSED = {
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is too long for a number",
    "float_parsing": "is not a number",
    "greater_than_equal": "is less than {ge:g}",
    "less_than_equal": "is more than {le:g}",
    "greater_than": "is not more than {gt:g}",
}

# Standard input, output and error are the files 0, 1 and 2.
LAST_STANDARD = 2


class Signalled(SystemExit):
    """Raised by a signal that ends the process at once; the open transaction is rolled back."""


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of a command whose parts exited with these codes."""
    distinct = set(codes)
    return next((code for code in WORST_FIRST if code in distinct), max(distinct, default=0))


@contextmanager
def stopping(clock: SystemClock, *, second_at_once: bool = False) -> Iterator[Callable[[], int]]:
    """On a signal, finish the current page and batch, and stop; yield a function that returns the exit code.

    `second_at_once`: a second signal ends the process at once, as `kill -9` would.
    """
    received: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        received.append(number)
        if second_at_once and len(received) > 1:
            os._exit(128 + number)
        # In a thread: the signal may have come while this one holds the lock inside the clock's event.
        _thread.start_new_thread(clock.stop, ())

    before = {number: signal.signal(number, stop) for number in _handled()}
    try:
        yield lambda: 128 + received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handled() -> list[signal.Signals]:
    """Return all signals; without SIGHUP if the process is to outlive its terminal (nohup)."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in SIGNALS if not (nohup and number is signal.SIGHUP)]


def run(command: Callable[[], int | None], words: Sequence[str], groups: Collection[str] = ()) -> None:
    """Run a command that returns its exit code; print every error as sentences, and exit with its code.

    `words` is the command line; the name of a command in one of `groups` is its first two words.
    """
    name = _name(words, groups)
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show must not fail the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in _handled():
        signal.signal(number, _raise_signalled)
    code = _run(command, words, name)
    if failure := finish():
        error = OutputFailed(f"Standard output could not be written: {failure}.")
        print_error(error)
        code = code or error.exit
    sys.exit(code)


def _run(command: Callable[[], int | None], words: Sequence[str], name: str) -> int:
    try:
        return command() or 0
    except (Exception, Signalled) as error:
        code, facts = _printed(error)
    if "--output=json" in words or ("--output", "json") in pairwise(words):
        echo_json(document(name, code, {"error": facts}))
    return code


def _printed(error: BaseException) -> tuple[int, dict[str, str] | None]:
    """Print the error that ended a command; return its exit code, and the error as JSON."""
    if isinstance(error, UsageError):
        _say_plainly(error)
        lines = StringIO()
        error.show(lines)
        echo_err(lines.getvalue().rstrip())
        return int(Exit.USAGE), Misused(error.format_message()).as_dict()
    if isinstance(error, Abort):
        return _unanswered()
    if not isinstance(error, ConnectorError) and (signalled := _signal_behind(error)):
        echo_err("stopped by a signal")
        return int(str(signalled.code)), None
    print_error(error)
    return exit_of(error), error_dict(error)


def _say_plainly(error: Any) -> None:
    """Replace the parser's message about a wrong value by a plain one."""
    for refused in getattr(error.__cause__, "errors", list)()[:1]:
        context = refused.get("ctx", {})
        if why := REFUSED.get(refused["type"]):
            error.message = f"{refused['input']!r} {why.format(**context)}."
        elif "error" in context:
            error.message = str(context["error"])


def _unanswered() -> tuple[int, dict[str, str]]:
    error = NotConfirmed("The question was not answered with yes.")
    if sys.stdin.isatty():
        echo_err("Aborted!")
    else:
        echo_err("")  # the question is still on this line
        print_error(error)
    return exit_of(error), error.as_dict()


def _open_closed() -> None:
    """Open /dev/null in place of a standard stream that was closed (`>&-` in a crontab)."""
    # Otherwise the database's file would get such a number, and output be written into the database.
    while (number := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD:
        pass
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _signal_behind(error: BaseException | None) -> Signalled | None:
    """Return the signal that caused an error: Python wraps what is raised while a class is created."""
    while error is not None and not isinstance(error, Signalled):
        error = error.__cause__ or error.__context__
    return error


def _name(words: Sequence[str], groups: Collection[str]) -> str:
    """Return the command's name without its arguments, which may be a person's id."""
    parts = 2 if words and words[0] in groups else 1
    return " ".join(takewhile(lambda word: not word.startswith("-"), words[:parts]))


def _raise_signalled(number: int, _frame: Any) -> None:
    raise Signalled(128 + number)

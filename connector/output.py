"""What commands print: data and summaries on standard output, and an error as three sentences."""

import json
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, TextIO

from connector.errors import ConnectorError

# Without a terminal a table is as wide as it needs to be.
WIDE = 10_000


def say(line: str = "") -> None:
    """One line on standard output."""
    write(sys.stdout, f"{line}\n")


def complain(line: str) -> None:
    """One line on standard error."""
    write(sys.stderr, f"{line}\n")


def write(stream: TextIO, text: str) -> None:
    """Write at once, but no work ends for what cannot be said.

    Where the reader has gone away, so does the rest; a disk without room may have some for the next line.
    """
    if _keeping:
        _keeping[-1].append((stream, text))
        return
    try:
        if text:  # a full disk does not take nothing, either
            stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _to_nowhere(stream)
    except OSError as error:
        if stream is sys.stdout:
            _unsaid.append(str(error.strerror))
        _drop(stream)


def finish() -> str:
    """Get out what is left, and give why standard output did not take all of it, if it did not."""
    for stream in (sys.stdout, sys.stderr):
        # The parser prints by itself, and Python would fail at the end with what it could not.
        write(stream, "")
    return _unsaid[0] if _unsaid else ""


def _drop(stream: TextIO) -> None:
    """Forget what a stream still holds."""
    place = os.dup(stream.fileno())
    _to_nowhere(stream)
    stream.flush()
    os.dup2(place, stream.fileno())
    os.close(place)


def _to_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


# Several connections speak at once: what belongs together is said under this lock.
together = threading.RLock()

# So many lines of a run that goes wrong are worth reading.
MOST_KEPT = 2_000

_keeping: list[deque[tuple[TextIO, str]]] = []

_unsaid: list[str] = []


@contextmanager
def kept_back(wanted: bool = True) -> Iterator[Callable[[], None]]:
    """Keep back all that is said meanwhile, and drop it, unless the function given is called.

    An error lets it out by itself.
    """
    if not wanted:
        yield lambda: None
        return
    kept: deque[tuple[TextIO, str]] = deque(maxlen=MOST_KEPT)
    spoken: list[bool] = []
    _keeping.append(kept)
    try:
        yield lambda: spoken.append(True)
    except BaseException:
        spoken.append(True)
        raise
    finally:
        _keeping.remove(kept)
        for stream, text in kept if spoken else ():
            write(stream, text)


def as_json(value: Mapping[str, Any]) -> None:
    """The JSON object that ends the output, on one line."""
    say(json.dumps(value, default=str))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table, as wide as the terminal allows; without a terminal it is as wide as it needs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # By way of a string: rich itself ends the process when the reader of a pipe has gone away.
    drawn, terminal = StringIO(), sys.stdout.isatty()
    console = Console(file=drawn, force_terminal=terminal, width=None if terminal else WIDE)
    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        # As Text, or brackets in it would be taken for markup.
        grid.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(grid)
    for line in drawn.getvalue().splitlines():
        say(line.rstrip())


def explain(error: ConnectorError, of: str = "") -> None:
    """What happened (`of` says to which of several connections), what it means for the data, what to do."""
    complain(f"error {error.code}: {of and f'{of}: '}{error.what}")
    for sentence in (error.means, error.todo):
        if sentence:
            complain(f"  {sentence}")


def explain_unexpected(error: BaseException, of: str = "") -> None:
    """Where it happened, but not the error's own text, which may hold a row or a key."""
    complain(f"error BS-001: {of and f'{of}: '}unexpected {type(error).__name__}")
    complain("  Nothing is lost: what was accepted is in the store, and the next run goes on from there.")
    complain("  Please report it with these lines, which hold no data:")
    for frame in traceback.extract_tb(error.__traceback__)[-12:]:
        complain(f"    {frame.filename}:{frame.lineno} in {frame.name}")


@contextmanager
def progress(what: str, wanted: bool = True) -> Iterator[Callable[[str], None]]:
    """Say how far long work has come, on a terminal only."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots", what)
    # Data that goes to a file or a pipe must not end up on the terminal.
    to_terminal = sys.stdout.isatty()
    with Live(spinner, console=Console(stderr=True), transient=True, redirect_stdout=to_terminal):
        yield lambda text: spinner.update(text=f"{what}: {text}")

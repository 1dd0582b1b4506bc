"""What commands print: a result as text or as JSON, errors, and progress."""

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from io import StringIO
from typing import TYPE_CHECKING, Any

from connector.clock import timer
from connector.errors import ConnectorError
from connector.terminal import Painted, one_line, printable, together, write

if TYPE_CHECKING:
    from connector.sync.report import Report

# Without a terminal a table is as wide as it needs to be.
WIDE = 10_000
# Without a terminal, the progress of long work is printed once in so many seconds.
PROGRESS_SECONDS = 60.0


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


# Receives the requests done, how many there are in all (None: unknown), and the run's report.
OnProgress = Callable[[int, int | None, "Report"], None]


def echo(line: str = "") -> None:
    """Print a line on standard output, without characters that a terminal would obey."""
    write(sys.stdout, f"{printable(line)}\n")


def echo_err(line: str) -> None:
    """Print a line on standard error, likewise."""
    write(sys.stderr, f"{printable(line)}\n")


def echo_json(value: Mapping[str, Any]) -> None:
    """Print the JSON object that ends the output, on one line."""
    echo(json.dumps(value, default=str))


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found or did: `data` for programs, `lines` for people, read only where wanted."""

    data: Mapping[str, Any]
    lines: Iterable[str] = ()
    exit: int = 0


def render(command: str, result: Result, output: Output) -> int:
    """Print a command's result as text or as JSON; return its exit code."""
    if output is Output.JSON:
        echo_json({"command": command, "exit": result.exit, **result.data})
    for line in result.lines if output is Output.TEXT else ():
        echo(line)
    return result.exit


def table_lines(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table, as wide as the terminal allows; without one, as wide as it needs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Into a string: rich itself ends the process when the reader of a pipe has gone away.
    drawn, terminal = StringIO(), sys.stdout.isatty()
    console = Console(file=drawn, force_terminal=terminal, width=None if terminal else WIDE)
    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        # As Text: otherwise rich takes brackets for markup.
        grid.add_row(*(Text("" if cell is None else one_line(str(cell))) for cell in row))
    console.print(grid)
    for line in drawn.getvalue().splitlines():
        yield Painted(line.rstrip())


def print_error(error: ConnectorError, connection: str = "") -> None:
    """Print what happened (to which of several connections), what it means for the data, and what to do."""
    echo_err(f"error {error.code}: {connection and f'{connection}: '}{error.what}")
    for sentence in (error.means, error.todo):
        if sentence:
            echo_err(f"  {sentence}")


def print_unexpected(error: BaseException, connection: str = "") -> None:
    """Print where an unexpected error was raised, without its own text, which may hold a row or a key."""
    echo_err(f"error BS-001: {connection and f'{connection}: '}unexpected {type(error).__name__}")
    echo_err("  Nothing is lost: accepted data is in the database, and the next run continues from there.")
    echo_err("  Please report it with the following lines; they contain no data:")
    for frame in traceback.extract_tb(error.__traceback__)[-12:]:
        echo_err(f"    {frame.filename}:{frame.lineno} in {frame.name}")


@dataclass(frozen=True, slots=True)
class Reporter:
    """Prints reports of one command's runs, but for JSON; `many`: an error names its connection."""

    output: Output
    many: bool = False

    def summary(
        self, lines: Sequence[str], connection: str = "", error: ConnectorError | None = None
    ) -> None:
        """Print a summary, and the error that the connection's run ended with."""
        with together:
            for line in lines if self.output is Output.TEXT else ():
                echo(line)
            if error:
                print_error(error, self._named(connection))

    def error(self, error: ConnectorError, connection: str) -> None:
        with together:
            print_error(error, self._named(connection))

    def unexpected(self, error: Exception, connection: str) -> None:
        with together:
            print_unexpected(error, self._named(connection))

    def _named(self, connection: str) -> str:
        return connection if self.many else ""


@contextmanager
def spinner(what: str, wanted: bool = True) -> Iterator[Callable[[str], None]]:
    """Show how far work has come, on a terminal only; yield a function that takes the words for it."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    shown = Spinner("dots", one_line(what))
    # Data that goes to a file or a pipe must not end up on the terminal.
    to_terminal = sys.stdout.isatty()
    with Live(shown, console=Console(stderr=True), transient=True, redirect_stdout=to_terminal):
        yield lambda text: shown.update(text=one_line(f"{what}: {text}"))


@contextmanager
def progress_bar(what: str) -> Iterator[OnProgress]:
    """Show how far long work has come: a bar on a terminal, elsewhere a line a minute."""
    elapsed, printed = timer(), 0.0
    if not sys.stderr.isatty():

        def line(done: int, total: int | None, report: "Report") -> None:
            nonlocal printed
            if elapsed() - printed >= PROGRESS_SECONDS:
                printed = elapsed()
                echo_err(f"{what}: {_progress(done, total, report, elapsed())}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"))
    to_terminal = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=to_terminal) as bar:
        task = bar.add_task(what, total=None, words="")

        def update(done: int, total: int | None, report: "Report") -> None:
            words = _progress(done, total, report, elapsed())
            bar.update(task, completed=done, total=None if total is None else max(total, done), words=words)

        yield update


def _progress(done: int, total: int | None, report: "Report", seconds: float) -> str:
    """Requests, rows, rate, and the time left; `seconds` since this run began."""
    about = "" if total is None else f" of about {total:,}"
    rows, rate = report.new.total(), report.requests_spent / seconds if seconds else 0.0
    words = f"{done:,}{about} requests, {rows:,} new rows, {report.sent:,} sent, {rate:.1f} requests/s"
    if total is None or total <= done or not rate:
        return words
    return f"{words}, {timedelta(seconds=round((total - done) / rate))} left"

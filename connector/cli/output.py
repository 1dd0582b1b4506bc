"""What commands print: a result as text or as JSON, errors, and progress."""

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

from connector.clock import timer
from connector.errors import ConnectorError, Exit
from connector.terminal import terminal_width, together, write
from connector.text import Painted, Verbatim, counted, one_line, printable, table, wrapped

if TYPE_CHECKING:
    from connector.sync.report import Report

# Without a terminal, the progress of long work is printed at this interval.
PROGRESS_SECONDS = 60.0
# Rises when a key of a command's JSON is renamed or left out, or changes its meaning or type.
SCHEMA_VERSION = 1


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


# Receives the requests sent, how many there are in all (None: unknown), and the run's report.
OnProgress = Callable[[int, int | None, "Report"], None]


def echo(line: str = "") -> None:
    """Print a line on standard output, without control characters for a terminal."""
    _print(sys.stdout, line)


def echo_err(line: str) -> None:
    """Print a line on standard error, without control characters for a terminal."""
    _print(sys.stderr, line)


def document(command: str, code: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a command's output as one object, in the form described in docs/reference/json."""
    return {"command": command, "schema_version": SCHEMA_VERSION, "exit": code, **data}


def echo_json(value: Mapping[str, Any]) -> None:
    """Print the JSON object that ends the output, on one line."""
    echo(Verbatim(json.dumps(value, default=str)))


def _print(stream: TextIO, text: str) -> None:
    """Print a text, wrapped between words to a terminal's width."""
    lines = [text] if isinstance(text, Painted) else printable(text).split("\n")
    width = None if isinstance(text, Verbatim) else terminal_width(stream)
    write(stream, "".join(f"{part}\n" for line in lines for part in wrapped(line, width)))


@dataclass(frozen=True, slots=True)
class Result:
    """A command's result: `data` for programs, `lines` for people, read only if they are printed.

    Without `data` no JSON is printed.
    """

    data: Mapping[str, Any] | None
    lines: Iterable[str] = ()
    exit: int = 0


def render(command: str, result: Result, output: Output) -> int:
    """Print a command's result as text or as JSON; return its exit code."""
    if output is Output.JSON and result.data is not None:
        echo_json(document(command, result.exit, result.data))
    for line in result.lines if output is Output.TEXT else ():
        echo(line)
    return result.exit


def table_lines(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table, as wide as the terminal allows; without one, as wide as it needs."""
    cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    yield from [title] if title else ()
    yield from table(columns, cells, terminal_width(sys.stdout))


def print_error(error: BaseException, connection: str = "") -> None:
    """Print what happened (to which of several connections), what it means for the data, and what to do.

    Of an unexpected error, print where it was raised instead of its own text, which may hold a row or a key.
    """
    facts, whose = error_dict(error), connection and f"{connection}: "
    echo_err(f"error {facts['code']}: {whose}{facts['what']}")
    if isinstance(error, ConnectorError):
        for sentence in filter(None, (error.means, error.todo)):
            echo_err(f"  {sentence}")
        return
    echo_err("  Nothing is lost: accepted data is in the database, and the next run continues from there.")
    echo_err("  Please report it with the following lines; they contain no data:")
    for frame in traceback.extract_tb(error.__traceback__)[-12:]:
        echo_err(f"    {frame.filename}:{frame.lineno} in {frame.name}")


def error_dict(error: BaseException) -> dict[str, str]:
    """Return an error as JSON; of an unexpected one only its kind."""
    if isinstance(error, ConnectorError):
        return error.as_dict()
    return {"code": ConnectorError.code, "what": f"unexpected {type(error).__name__}"}


def exit_of(error: BaseException) -> int:
    """Return the exit code of a command that ends with an error."""
    return int(error.exit if isinstance(error, ConnectorError) else Exit.UNEXPECTED)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Prints findings during the work, except for JSON; `many`: an error names its connection."""

    output: Output
    many: bool = False

    def summary(self, lines: Sequence[str], connection: str = "", error: Exception | None = None) -> None:
        """Print a summary, and the error that ended the connection's run."""
        with together:
            for line in lines if self.output is Output.TEXT else ():
                echo(line)
            if error:
                print_error(error, connection if self.many else "")


@contextmanager
def spinner(what: str, wanted: bool = True) -> Iterator[Callable[[str], None]]:
    """Show the progress of work, on a terminal only; yield a function that takes the words for it."""
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
    """Show the progress of long work: a bar on a terminal, elsewhere a line a minute."""
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
    from rich.table import Column

    # In its own column the words are wrapped instead of cut.
    columns = (BarColumn(bar_width=16), TextColumn("{task.fields[words]}", table_column=Column()))
    to_terminal = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=to_terminal) as bar:
        task = bar.add_task(what, total=None, words="")

        def update(done: int, total: int | None, report: "Report") -> None:
            words = _progress(done, total, report, elapsed())
            bar.update(task, completed=done, total=None if total is None else max(total, done), words=words)

        yield update


def _progress(done: int, total: int | None, report: "Report", seconds: float) -> str:
    """Return requests, rows, rate, and the time left; `seconds` since this run began."""
    requests = counted(done, "request") if total is None else f"{done:,} of about {counted(total, 'request')}"
    rows, rate = report.new.total(), report.requests_spent / seconds if seconds else 0.0
    words = f"{requests}, {counted(rows, 'new row')}, {report.sent:,} sent, {rate:.1f} requests/s"
    if total is None or total <= done or not rate:
        return words
    return f"{words}, {timedelta(seconds=round((total - done) / rate))} left"

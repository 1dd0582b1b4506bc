"""What commands print: data and summaries on standard output, and an error as three sentences."""

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from connector.errors import ConnectorError


def say(line: str = "") -> None:
    """One line on standard output."""
    sys.stdout.write(f"{line}\n")


def complain(line: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"{line}\n")


def as_json(value: Mapping[str, Any]) -> None:
    """The JSON object that ends the output, on one line."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table, as wide as the terminal allows; without a terminal it is as wide as it needs."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(grid)


def explain(error: ConnectorError) -> None:
    """What happened, what it means for the data, what to do."""
    complain(f"error {error.code}: {error.what}")
    for sentence in (error.means, error.todo):
        if sentence:
            complain(f"  {sentence}")


def explain_unexpected(error: BaseException) -> None:
    """Where it happened, but not the error's own text, which may hold a row or a key."""
    complain(f"error BS-001: unexpected {type(error).__name__}")
    complain("  Nothing is lost: what was accepted is in the store, and the next run goes on from there.")
    complain("  Please report it with these lines, which hold no data:")
    for frame in traceback.extract_tb(error.__traceback__)[-12:]:
        complain(f"    {frame.filename}:{frame.lineno} in {frame.name}")


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Say how far long work has come, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")

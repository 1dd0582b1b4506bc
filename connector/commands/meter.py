"""How far long work has come: a bar on a terminal, elsewhere a line a minute."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from connector.clock import timer
from connector.output import complain
from connector.sync.report import Report

# Requests done, of how many (None: unknown), and what this run has done.
Told = Callable[[int, int | None, Report], None]
EVERY = 60.0


@contextmanager
def meter(what: str) -> Iterator[Told]:
    """Give a function that is told how far it has come, after each page."""
    if sys.stderr.isatty():
        with _bar(what) as told:
            yield told
        return
    elapsed, last = timer(), 0.0

    def line(done: int, of: int | None, report: Report) -> None:
        nonlocal last
        if elapsed() - last >= EVERY:
            last = elapsed()
            complain(f"{what}: {words(done, of, report, elapsed())}")

    yield line


@contextmanager
def _bar(what: str) -> Iterator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"))
    to_terminal = sys.stdout.isatty()
    elapsed = timer()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=to_terminal) as bar:
        task = bar.add_task(what, total=None, words="")

        def told(done: int, of: int | None, report: Report) -> None:
            total = None if of is None else max(of, done)
            bar.update(task, completed=done, total=total, words=words(done, of, report, elapsed()))

        yield told


def words(done: int, of: int | None, report: Report, seconds: float) -> str:
    """Requests, rows, rate, and the time left; `seconds` since this run began."""
    about = "" if of is None else f" of about {of:,}"
    rows, rate = report.new.total(), report.asked / seconds if seconds else 0.0
    said = f"{done:,}{about} requests, {rows:,} new rows, {report.sent:,} sent, {rate:.1f} requests/s"
    if of is None or of <= done or not rate:
        return said
    return f"{said}, {timedelta(seconds=round((of - done) / rate))} left"

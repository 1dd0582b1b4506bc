"""`report`: the HTML page with charts, into a file or for `schedule` to serve."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from connector.cli.command import ConnectionName, Files, Session, open_session, prints_result
from connector.cli.output import Output, Reporter, Result
from connector.cli.status import statuses
from connector.config import Connection
from connector.errors import OutputFailed
from connector.files import READABLE_BY_ALL, put
from connector.reporting.health import as_dict
from connector.reporting.report_page import page, report_data_of
from connector.state.engine import Database
from connector.text import Painted

app = typer.Typer(rich_markup_mode=None)


@app.command()
@prints_result
def report(
    files: Files,
    reporter: Reporter,
    file: Annotated[Path, typer.Option("--html", metavar="FILE", help="The file to write; - prints it.")],
    connection: ConnectionName = None,
) -> Result:
    """Write an HTML report with charts: health, quota, rows, delays, runs, missing rows; sends no request.

    It is one file that needs neither network nor scripts. `schedule` serves the same page.

    Example: beamer-segment report --html report.html
    """
    session = open_session(*files, secrets=False)
    to_stdout = str(file) == "-"
    if to_stdout and reporter.output is Output.JSON:
        raise typer.BadParameter("--html - and --output json cannot both use standard output.")
    chosen = session.named(connection)
    with session.existing() as database:
        text = html(session, database, chosen)
    if to_stdout:
        # Its content is already printable.
        return Result(None, [Painted(text)])
    content = text.encode()
    try:
        put(file, content, READABLE_BY_ALL)
    except OSError as error:
        raise OutputFailed(
            f"The report cannot be written to {file}: {error.strerror}.",
            means="Nothing was changed.",
            todo="Name a file in an existing folder that you may write to.",
        ) from None
    names = [connection.name for connection in chosen]
    data = {"file": str(file), "bytes": len(content), "connections": names}
    return Result(data, [f"Written to {file}: {len(content) / 1000:,.0f} kB."])


def html(
    session: Session,
    database: Database | None,
    chosen: Sequence[Connection],
    links: Iterable[tuple[str, str]] = (),
) -> str:
    """Return the page of these connections as of now."""
    results = [as_dict(status) for status in statuses(session, database, chosen)]
    now = session.clock.now()
    return page(report_data_of(database, results, now), now, links)

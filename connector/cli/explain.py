"""`explain`: what the database shows of one row, of one user's messages, or of one day."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from connector.cli.command import ConnectionName, Files, open_readonly, prints_result
from connector.cli.output import Result
from connector.cli.status import statuses
from connector.reporting.day_history import day_histories
from connector.reporting.row_history import RowHistory, never_seen, row_histories, user_histories
from connector.text import one_line

app = typer.Typer(rich_markup_mode=None)


@app.command()
@prints_result
def explain(
    files: Files,
    what: Annotated[
        str,
        typer.Argument(
            metavar="ROW|USER|DATE",
            help="A row's id in Beamer, a messageId, a user id, or a date such as 2026-11-01.",
        ),
    ],
    connection: ConnectionName = None,
) -> Result:
    """Show what happened to a row, what is held of a user, or what was read of a day (UTC).

    Of a row: when it was first seen, its verdict, and whether it was delivered. Of a user: messages that wait
    or were refused. Of a day: whether its rows were read, and what the runs of that day did.

    Example: beamer-segment explain bmr1-6dcd4ce2-9b871512-comment-123-1234
    """
    session = open_readonly(*files)
    day = _day(what)
    rows, users, days = list[RowHistory](), list[RowHistory](), list[RowHistory]()
    with session.existing() as database:
        if day:
            days = day_histories(database, statuses(session, database, session.named(connection)), day)
        elif database:
            rows = row_histories(database, session.known(connection), what)
            users = user_histories(database, session.known(connection), what)
    results = [*rows, *users, *days]
    data = {
        kind: [dict(history.data) for history in histories]
        for kind, histories in (("rows", rows), ("users", users), ("days", days))
    }
    return Result(data, _lines(results) if results else map(one_line, never_seen(what)))


def _day(word: str) -> datetime | None:
    """Return the day's beginning, if the word is a date."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", word):
        return None
    try:
        return datetime.fromisoformat(word).replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"{word} is not a date.") from None


def _lines(histories: Sequence[RowHistory]) -> Iterator[str]:
    for history in histories:
        first, *rest = map(one_line, history.sentences)
        yield from (first, *(f"  {line}" for line in rest))

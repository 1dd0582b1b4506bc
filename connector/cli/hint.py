"""`hint`: announce new rows, for those who receive Beamer's webhooks elsewhere."""

from typing import Annotated

import typer
from typer import BadParameter

from connector.beamer.streams import CATALOGUE
from connector.beamer.webhooks import hint_for
from connector.cli.command import ConnectionName, Files, open_readonly, prints_result
from connector.cli.output import Result
from connector.config.values import unknown
from connector.domain.hints import title_digest
from connector.errors import ConfigurationError
from connector.state import hints

app = typer.Typer(rich_markup_mode=None)


@app.command()
@prints_result
def hint(
    files: Files,
    stream: Annotated[str, typer.Option("--stream", help="The stream in which a row is new.")],
    connection: ConnectionName = None,
    parent: Annotated[
        str | None,
        typer.Option("--post-id", "--request-id", help="The post or feature request; else the newest."),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--post-title", help="The post by its title, if its id is unknown.")
    ] = None,
    row: Annotated[str | None, typer.Option("--row-id", help="The new row, if its id is known.")] = None,
) -> Result:
    """Say that a row is new: the next sync reads its list first. Sends no request.

    Example: beamer-segment hint --stream comments --post-id 123
    """
    if stream not in CATALOGUE:
        raise BadParameter(f"{unknown(stream, CATALOGUE, 'stream')}.")
    session = open_readonly(*files)
    name = session.settings.connection(connection).name
    new = hint_for(stream, parent=parent or "", title=title_digest(title) if title else "", row=row or "")
    with session.existing() as database:
        if database is None:
            raise ConfigurationError(
                "There is no database yet.", means="No hint was stored.", todo="Run the first sync."
            )
        hints.add(database, name, [new], session.clock.now())
        lists = hints.waiting(database, name).get(stream, {})
        waiting = sum(of_list.count for of_list in lists.values())
    return Result({"connection": name, "stream": stream, "waiting": waiting}, [_line(name, stream, waiting)])


def _line(name: str, stream: str, waiting: int) -> str:
    if not waiting:
        return f"{name}: this row of {stream} is known already; the next sync has nothing to read for it."
    return f"{name}: the next sync reads {stream} first."

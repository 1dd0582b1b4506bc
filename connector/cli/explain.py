"""`explain`: the history of one row."""

from typing import Annotated

import typer

from connector.cli.context import open_readonly
from connector.cli.options import ConfigFile, ConnectionName, EnvFile, OutputFormat
from connector.cli.output import Output, Result, render
from connector.reporting.row_history import never_seen, row_histories
from connector.terminal import one_line

app = typer.Typer(rich_markup_mode=None)


@app.command()
def explain(
    row: Annotated[str, typer.Argument(help="A row's id in Beamer, or a messageId.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what happened to one row: when it was first seen, its verdict, whether it was delivered.

    Example: beamer-segment explain bmr1-6dcd4ce2-9b871512-comment-123-1234
    """
    session = open_readonly(config, env_file)
    with session.existing() as database:
        stories = row_histories(database, session.known(connection), row) if database else []
    text: list[str] = []
    for story in stories:
        first, *rest = map(one_line, story.sentences)
        text += [first, *(f"  {line}" for line in rest)]
    data = {"rows": [dict(story.data) for story in stories]}
    render("explain", Result(data, text or map(one_line, never_seen(row))), output)

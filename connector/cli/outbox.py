"""`outbox`: the messages that wait for Segment, and those that it refused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from connector.cli.context import open_readonly, open_session
from connector.cli.options import ConfigFile, ConnectionName, EnvFile, OutputFormat, Yes
from connector.cli.output import Output, Result, render, table_lines
from connector.clock import plain
from connector.state import outbox
from connector.state.credentials import CONFIRM
from connector.terminal import one_line

app = typer.Typer(rich_markup_mode=None)
outbox_app = typer.Typer(
    no_args_is_help=True, help="Messages that wait for Segment, and messages that it refused."
)
app.add_typer(outbox_app, name="outbox")

COLUMNS = ("number", "state", "event", "messageId", "bytes", "tries", "answer")
Messages = Annotated[list[str] | None, typer.Argument(help="Numbers or messageIds.", show_default=False)]


@outbox_app.command("list")
def list_messages(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    dead: Annotated[bool, typer.Option("--dead", help="List only refused messages (dead letters).")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many messages to list.")] = 50,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List messages that wait for Segment or that it refused, oldest first, without their texts."""
    session = open_readonly(config, env_file)
    with session.existing() as database:
        name = session.known(connection)
        messages = outbox.listed(database, name, outbox.DEAD if dead else None, limit) if database else []
    data = [{name: plain(value) for name, value in message.items()} for message in messages]
    empty = "Nothing was refused." if dead else "Nothing waits."
    render("outbox list", Result({"messages": data}, _lines(messages) if messages else [empty]), output)


def _lines(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from table_lines("", COLUMNS, map(_cells, messages))
    if held := sum(message["held"] for message in messages):
        yield f"held: {held:,} messages made for a former write key; `{CONFIRM}` sends them with the new key."


def _cells(message: Mapping[str, Any]) -> tuple[Any, ...]:
    held = message["held"] and message["state"] != outbox.DEAD
    return (
        message["id"],
        "held" if held else message["state"],
        message["event"],
        message["message_id"],
        message["size"],
        message["tries"],
        message["answer"],
    )


@outbox_app.command()
def show(
    which: Annotated[str, typer.Argument(help="A number or a messageId.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Print one message exactly as it is sent, and Segment's answer."""
    session = open_readonly(config, env_file)
    with session.existing() as database:
        row = outbox.shown(database, which) if database else None
    if row is None:
        raise typer.BadParameter(f"There is no message {which!r} in the outbox; it may have been sent.")
    try:
        message = json.loads(row["message"])
        text = [json.dumps(message, indent=2, ensure_ascii=False)]
    except (ValueError, RecursionError):
        # Damaged in the database: as it stands there.
        message = row["message"]
        text = [message]
    if row["answer"]:
        at = f"{row['answered_at']:%Y-%m-%d %H:%M}" if row["answered_at"] else "never"
        text.append(one_line(f"refused {at}: {row['answer']}"))
    data = {**{name: plain(value) for name, value in row.items()}, "message": message}
    render("outbox show", Result({"message": data}, text), output)


@outbox_app.command()
def retry(
    which: Messages = None,
    every: Annotated[bool, typer.Option("--all", help="All refused messages.")] = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Put refused messages back into the outbox; the next sync sends them."""
    messages = _named(which, every)
    session = open_session(config, env_file, secrets=False)
    name = session.known(connection)
    with session.existing() as database:
        count = outbox.retry(database, name, messages) if database else 0
    text = "Nothing was refused." if every else "None of them was refused."
    if count:
        text = f"{count} messages wait again; the next sync sends them."
    render("outbox retry", Result({"waiting_again": count}, [text]), output)


@outbox_app.command()
def drop(
    which: Messages = None,
    every: Annotated[bool, typer.Option("--all", help="All messages that are not being sent.")] = False,
    yes: Yes = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Delete messages without sending them. Syncs do not send their rows again."""
    messages = _named(which, every)
    session = open_session(config, env_file, secrets=False)
    name = session.known(connection)
    if not yes:
        typer.confirm("These messages will never be sent. Continue?", abort=True, err=True)
    with session.existing() as database:
        count = outbox.drop(database, name, messages) if database else 0
    render("outbox drop", Result({"dropped": count}, [f"{count} messages deleted."]), output)


def _named(which: list[str] | None, every: bool) -> list[str]:
    if bool(which) == every:
        raise typer.BadParameter("Name messages, or pass --all.")
    return which or []

"""`outbox`: the messages that wait for Segment, and those that it refused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from connector.cli.command import (
    ConnectionName,
    Files,
    Group,
    Yes,
    open_readonly,
    open_session,
    prints_result,
)
from connector.cli.output import Result, table_lines
from connector.clock import plain
from connector.state import outbox
from connector.state.connections import CONFIRM
from connector.text import Verbatim, counted, one_line

app = typer.Typer(rich_markup_mode=None)


class ListByDefault(Group):
    """Without a sub-command, `outbox` lists; its options are those of `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        # A shell that completes a word also parses without a sub-command.
        return super().parse_args(ctx, args if named or ctx.resilient_parsing else ["list", *args])


outbox_app = typer.Typer(
    cls=ListByDefault, help="List messages that wait for Segment, and those it refused; or act on them."
)
app.add_typer(outbox_app, name="outbox")

COLUMNS = ("number", "state", "event", "bytes", "tries", "messageId", "answer")
Messages = Annotated[list[str] | None, typer.Argument(help="Numbers or messageIds.")]


@outbox_app.command("list")
@prints_result
def list_messages(
    files: Files,
    connection: ConnectionName = None,
    dead: Annotated[bool, typer.Option("--dead", help="List only refused messages (dead letters).")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many messages to list.")] = 50,
) -> Result:
    """List messages that wait for Segment or that it refused, oldest first, without their texts."""
    session = open_readonly(*files)
    with session.existing() as database:
        name = session.known(connection)
        messages = outbox.listed(database, name, outbox.DEAD if dead else None, limit) if database else []
    data = [{name: plain(value) for name, value in message.items()} for message in messages]
    empty = "Nothing was refused." if dead else "Nothing waits."
    return Result({"messages": data}, _lines(messages) if messages else [empty])


def _lines(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from table_lines("", COLUMNS, map(_cells, messages))
    if held := sum(message["held"] for message in messages):
        count = counted(held, "message")
        yield f"held: {count} for a former write key; `{CONFIRM}` sends them with the new key."


def _cells(message: Mapping[str, Any]) -> tuple[Any, ...]:
    held = message["held"] and message["state"] != outbox.DEAD
    return (
        message["id"],
        "held" if held else message["state"],
        message["event"],
        message["size"],
        message["tries"],
        message["message_id"],
        message["answer"],
    )


@outbox_app.command()
@prints_result
def show(files: Files, which: Annotated[str, typer.Argument(help="A number or a messageId.")]) -> Result:
    """Print one message exactly as it is sent, and Segment's answer."""
    session = open_readonly(*files)
    with session.existing() as database:
        row = outbox.shown(database, which) if database else None
    if row is None:
        raise typer.BadParameter(f"There is no message {which!r} in the outbox; it may have been sent.")
    try:
        message = json.loads(row["message"])
        text: list[str] = [Verbatim(json.dumps(message, indent=2, ensure_ascii=False))]
    except (ValueError, RecursionError):
        # Damaged in the database: print it as it is stored.
        message = row["message"]
        text = [Verbatim(message)]
    if row["answer"]:
        at = f"{row['answered_at']:%Y-%m-%d %H:%M}" if row["answered_at"] else "never"
        text.append(one_line(f"refused {at}: {row['answer']}"))
    data = {**{name: plain(value) for name, value in row.items()}, "message": message}
    return Result({"message": data}, text)


@outbox_app.command()
@prints_result
def retry(
    files: Files,
    which: Messages = None,
    every: Annotated[bool, typer.Option("--all", help="All refused messages.")] = False,
    connection: ConnectionName = None,
) -> Result:
    """Put refused messages back into the outbox; the next sync sends them."""
    messages = _named(which, every)
    session = open_session(*files, secrets=False)
    name = session.known(connection)
    with session.existing() as database:
        count = outbox.retry(database, name, messages) if database else 0
    nothing = "Nothing was refused." if every else "None of them was refused."
    text = (
        f"{counted(count, 'message')} put back into the outbox; the next sync sends all that waits."
        if count
        else nothing
    )
    return Result({"waiting_again": count}, [text])


@outbox_app.command()
@prints_result
def drop(
    files: Files,
    which: Messages = None,
    every: Annotated[bool, typer.Option("--all", help="All messages that are not being sent.")] = False,
    yes: Yes = False,
    connection: ConnectionName = None,
) -> Result:
    """Delete messages without sending them. Syncs do not send their rows again."""
    messages = _named(which, every)
    session = open_session(*files, secrets=False)
    name = session.known(connection)
    if not yes:
        typer.confirm("These messages will never be sent. Continue?", abort=True, err=True)
    with session.existing() as database:
        count = outbox.drop(database, name, messages) if database else 0
    return Result({"dropped": count}, [f"{counted(count, 'message')} deleted."])


def _named(which: list[str] | None, every: bool) -> list[str]:
    if bool(which) == every:
        raise typer.BadParameter("Name messages, or pass --all.")
    return which or []

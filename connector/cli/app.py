"""The commands: what `--help` lists of each, and how its file is loaded when it is called."""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from connector import __version__
from connector.cli.exit_codes import run
from connector.cli.output import echo

# By heading. The file of a command has its name, but for those in FILES.
COMMANDS = {
    "Everyday": {
        "init": "Ask for keys and settings, check them, and write an env file.",
        "check": "Check settings, database, key, clock and destination.",
        "sync": "Read what is new in Beamer and send it to Segment.",
        "audit": "Read all lists again, and send missing rows.",
        "schedule": "Sync every connection repeatedly, as its request budget allows.",
        "backfill": "Send history: rows older than the start date.",
        "status": "Show each connection's health, on one screen.",
        "explain": "Show what happened to one row.",
        "report": "Write an HTML report with charts.",
        "runs": "List past runs, newest first, with what they did.",
        "quota": "Show the requests used and left this month.",
        "outbox": "Show messages that wait for Segment or were refused.",
    },
    "Try it": {
        "demo": "Run a complete example on this machine; needs no keys.",
        "sandbox": "Serve a made-up Beamer and a made-up Segment.",
    },
    "More": {
        "events": "Describe every event and its properties.",
        "forget": "Delete a person's messages, and never send their rows again.",
        "db": "Upgrade the database to this version.",
        "state": "Export, import, reset or repair a connection's state.",
        "config": "Show the settings in use.",
    },
}
FILES = {"audit": "sync", "sandbox": "demo", "db": "state"}
# These have commands of their own.
GROUPS = ("quota", "outbox", "db", "state", "config")


def load(name: str) -> Any:
    """Return a command, from its file."""
    commands = get_group(import_module(f"connector.cli.{FILES.get(name, name)}").app).commands
    return commands[name]


class Commands(TyperGroup):
    """Lists commands by heading; loads a command's file only when it is called, to keep `--help` fast."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        listed = (command for heading in COMMANDS.values() for command in heading.items())
        self.commands = {name: TyperCommand(name, help=text) for name, text in listed}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load(name), rest

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as click calls it
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(list(commands.items()))


app = typer.Typer(
    name="beamer-segment",
    help="Reads what users say in Beamer and sends it to Segment as events.",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `beamer-segment demo`, which needs no keys. `config show` lists the settings.",
)


def _version(wanted: bool) -> None:
    if wanted:
        echo(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; every error ends in a sentence and an exit code."""
    run(lambda: app(prog_name="beamer-segment", standalone_mode=False), sys.argv[1:], GROUPS)

"""The commands: the line of `--help` for each, and how its file is loaded when it is called."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from connector import __version__
from connector.cli.exit_codes import UsageError, run
from connector.cli.output import echo

# By heading, the most frequent first. The file of a command has its name, except for those in FILES.
COMMANDS = {
    "Everyday": {
        "sync": "Read what is new in Beamer and send it to Segment.",
        "status": "Show each connection's health, on one screen.",
        "check": "Check settings, database, key, clock and destination.",
        "init": "Ask for keys and settings, check them, and write an env file.",
        "backfill": "Send history: rows older than the start date.",
        "schedule": "Sync every connection repeatedly, as its request budget allows.",
    },
    "Find out more": {
        "streams": "List the streams: rows, counters, key, and requests a poll.",
        "runs": "List past runs, newest first, with what they did.",
        "quota": "Show the requests used and left this month.",
        "verify": "Compare what was sent with what Segment counts.",
        "explain": "Show what happened to a row, a user's messages, or a day.",
        "outbox": "Show messages that wait for Segment or were refused.",
        "report": "Write an HTML report with charts.",
        "events": "Describe every event and its properties.",
        "config": "Show the settings in use.",
    },
    "Maintain": {
        "audit": "Read all lists again, and send missing rows.",
        "hint": "Say that a row is new, so that the next sync reads its list.",
        "forget": "Delete a person's messages, and never send their rows again.",
        "state": "Export, import, reset or repair a connection's state.",
        "db": "Upgrade the database to this version.",
    },
    "Try it": {
        "demo": "Run a complete example on this machine; needs no keys.",
        "sandbox": "Serve a made-up Beamer and a made-up Segment.",
    },
}
FILES = {
    "audit": "sync",
    "sandbox": "demo",
    "db": "state",
    "runs": "status",
    "config": "events",
}
# These have sub-commands.
GROUPS = ("quota", "outbox", "db", "state", "config")


def load(name: str) -> Any:
    """Return a command, from its file."""
    commands = get_group(import_module(f"connector.cli.{FILES.get(name, name)}").app).commands
    return commands[name]


# What people type who know other tools, and the commands that they mean.
COMMANDS_MEANT = {
    "`sync` reads what is new and sends it; `runs` lists past runs": "run read extract el elt",
    "`schedule` syncs repeatedly; `sync` runs once": "start serve daemon watch",
    "`check` goes through everything that a sync needs": "test validate doctor",
    "`streams` lists the streams; `events` describes the events": "discover list",
    "`config show` shows the settings in use": "spec settings show",
    "`init` asks for keys and settings": "setup configure install",
    "`backfill --since DATE` sends history": "history replay load",
    "`state reset` reads a stream again; `backfill` sends history": "reset refresh",
    "`status` shows each connection's health": "health info",
    "`runs` lists past runs; LOG_LEVEL=debug logs more": "logs",
    "`db upgrade` upgrades the database": "upgrade migrate",
    "--version prints the version": "version",
    "--help lists the commands": "help",
}
OPTIONS_MEANT = {
    "`backfill --since DATE` sends history; BEAMER_START_DATE sets where the first sync starts": (
        "--since --from --start-date --until"
    ),
    "`backfill` sends history again; `audit` reads all lists again": "--full --full-refresh",
    "set LOG_LEVEL=debug in the environment": "--verbose -v --debug --log-level",
    "--output json prints JSON": "--json --format",
    "--stream NAME chooses a stream, and may be repeated": "--streams --select",
    "`sync --max-requests N` limits the requests, `runs --last N` the list of runs": "--limit -n",
    "settings are variables or lines of the env file; `config show` lists them": (
        "--plan --region --api-key --write-key --anonymous --traits"
    ),
    "the state is in the database, and BEAMER_STREAMS chooses streams": "--catalog --state",
}
# Options before the name of a command.
TOO_EARLY = {
    "put options after the command, as in `beamer-segment sync --env-file FILE`": (
        "--env-file --config --connection --output --all"
    )
}


def _by_word(table: dict[str, str]) -> dict[str, str]:
    return {word: meaning for meaning, words in table.items() for word in words.split()}


class Commands(TyperGroup):
    """Lists commands by heading; loads a command's file only when it is called, to keep `--help` fast."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        listed = (command for heading in COMMANDS.values() for command in heading.items())
        self.commands = {name: TyperCommand(name, help=text) for name, text in listed}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _meant_options({**OPTIONS_MEANT, **TOO_EARLY}):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _meant_options(OPTIONS_MEANT):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and (meant := _by_word(COMMANDS_MEANT).get(args[0])):
            ctx.fail(f"There is no command {args[0]!r}: {meant}.")
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load(name), rest

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as click calls it
        return list(self.commands)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Put the commands before the options, so that they are on the first screen."""
        super().format_help_text(ctx, formatter)
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(list(commands.items()))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        pass


@contextmanager
def _meant_options(table: dict[str, str]) -> Iterator[None]:
    """Add the probable meaning to the error about an unknown option."""
    try:
        yield
    except UsageError as error:
        option = getattr(error, "option_name", "")
        if meant := _by_word(table).get(option):
            error.message = f"There is no option {option} here: {meant}."
            error.possibilities = None
        raise


app = typer.Typer(
    name="beamer-segment",
    help="Reads what users say in Beamer and sends it to Segment as events.",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `demo`, which needs no keys, or with `init`. `sync --help` lists its options.",
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
    """Run a command; print every error as a sentence, and exit with its code."""
    run(lambda: app(prog_name="beamer-segment", standalone_mode=False), sys.argv[1:], GROUPS)

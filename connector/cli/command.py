"""The common parts of commands: options, the session of settings, clock and database, printing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

from typer import BadParameter, Context, Exit, Option
from typer.core import TyperGroup

from connector.cli.output import Output, Reporter, Result, render
from connector.clock import SystemClock
from connector.compose import open_existing, open_ready
from connector.config import STREAMS, Connection, Settings, Shard, load, surroundings
from connector.logs import Redaction, quiet_libraries, set_up
from connector.state import schema
from connector.state.engine import Database
from connector.state.leases import Lease, holding_all, this_process

NOTHING: Mapping[str, object] = MappingProxyType({})

# --- options ------------------------------------------------------------------------------------------


def stream_names(incomplete: str) -> list[str]:
    """Return the streams that complete a word in a shell."""
    return [name for name in STREAMS if name.startswith(incomplete)]


ConnectionName = Annotated[str | None, Option("--connection", help="Use only this connection.")]
EveryConnection = Annotated[bool, Option("--all", help="Use every connection, several at once.")]
OneShard = Annotated[
    str | None,
    Option("--shard", metavar="INDEX/COUNT", help="Use only this share of the connections, such as 0/5."),
]
Workers = Annotated[
    int | None, Option("--workers", min=1, max=64, help="How many connections to work on at once.")
]
StreamNames = Annotated[
    list[str] | None,
    Option(
        "--stream",
        help="Read only this stream and its parents; may be repeated.",
        autocompletion=stream_names,
    ),
]
MostRequests = Annotated[
    int | None, Option("--max-requests", min=0, help="Send at most this many requests to Beamer.")
]
NewStore = Annotated[
    bool, Option("--new-store", help="Create the database on a local disk, also in a pod or an Airflow task.")
]
Yes = Annotated[bool, Option("--yes", help="Do not ask.")]


def parsed(parse: Callable[[str], Any], word: str | None, option: str, form: str = "") -> Any:
    """Parse an option by the rules of a setting; return None if it is missing.

    The error asks for `form`, which describes a right value with an example.
    """
    try:
        return None if word is None else parse(word)
    except ValueError as error:
        raise BadParameter(f"{error}.{form and f' Give {form}.'}", param_hint=option) from None


# --- how a command is declared ------------------------------------------------------------------------


class Files(NamedTuple):
    """Where the settings are, besides the environment: the options --config and --env-file."""

    config: Path | None
    env_file: Path | None


def _shared(name: str, kind: Any, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)


_CONTEXT = Parameter("context", Parameter.KEYWORD_ONLY, annotation=Context)
_FILES = (
    _shared(
        "config",
        Annotated[Path | None, Option("--config", help="A TOML file, or a directory of TOML files.")],
        None,
    ),
    _shared(
        "env_file",
        Annotated[
            Path | None, Option("--env-file", help="A file with KEY=VALUE lines; else the one of `init`.")
        ],
        None,
    ),
)
_OUTPUT = _shared(
    "output",
    Annotated[Output, Option("--output", help="json prints one JSON object on the last line.")],
    Output.TEXT,
)


def prints_result(function: Callable[..., Result | None]) -> Callable[..., None]:
    """Turn a function that returns a result into a command that prints it in the form of --output.

    A parameter of the type Files becomes the options --config and --env-file. One of the type Reporter
    receives the object that prints during the work.
    """
    declared = signature(function).parameters
    kinds = {name: parameter.annotation for name, parameter in declared.items()}
    files = _FILES if Files in kinds.values() else ()
    parameters = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in declared.values()
        if parameter.annotation not in (Context, Files, Reporter)
    ]
    options = [_CONTEXT, *files, *parameters, _OUTPUT]

    @wraps(function)
    def command(*, context: Context, output: Output, **values: Any) -> None:
        by_kind = {
            Context: context,
            Files: Files(*(values.pop(option.name) for option in files)) if files else None,
            Reporter: Reporter(output),
        }
        values |= {name: by_kind[kind] for name, kind in kinds.items() if kind in (Context, Files, Reporter)}
        result = function(**values)
        if result is not None:
            raise Exit(render(context.command_path.partition(" ")[2], result, output))

    command.__signature__ = Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command


class Group(TyperGroup):
    """A command with sub-commands, which its help describes in whole sentences."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as click calls it
        with formatter.section("Commands"):
            formatter.write_dl([(name, _about(command)) for name, command in self.commands.items()])


def _about(command: Any) -> str:
    """Return the first paragraph of a command's help, on one line."""
    return " ".join((command.help or "").split("\n\n")[0].split())


# --- the session --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """The settings and the clock of one command, and its access to the database."""

    settings: Settings
    clock: SystemClock
    # Loads the settings again: keys in files may have been replaced.
    reload: Callable[[], Settings] | None = None

    def chosen(self, name: str | None, every: bool = False, shard: str | None = None) -> list[Connection]:
        """Return the connection of that name, or every one, or those of a shard such as `0/5`."""
        if name and (every or shard):
            raise BadParameter("--connection cannot be combined with --all or --shard.")
        if shard is None and not every:
            return [self.settings.connection(name, ", or --all")]
        try:
            share = Shard.parse(shard or "0/1")
        except ValueError as error:
            raise BadParameter(str(error)) from None
        return [connection for connection in self.settings.connections if share.holds(connection.name)]

    def named(self, name: str | None) -> list[Connection]:
        """Return the connection of that name; without a name, all."""
        return self.chosen(name, every=name is None)

    def known(self, name: str | None) -> str | None:
        """Return the name if there is such a connection; None stands for all."""
        return name and self.settings.connection(name).name

    def database(self, new: bool = False, workers: int = 1) -> AbstractContextManager[Database]:
        """Open the database, or create it, for so many threads."""
        return closing(open_ready(self.settings, self.clock, new=new, workers=workers))

    def alone_on(self, database: Database, name: str) -> AbstractContextManager[list[Lease]]:
        """Hold all leases of a connection; raise Busy if a run is in progress."""
        return holding_all(database, name, this_process(), self.clock)

    @contextmanager
    def existing(self) -> Iterator[Database | None]:
        """Open the database to read it; None if there is none."""
        database = open_existing(self.settings)
        with closing(database) if database else nullcontext():
            if database:
                schema.ready(database, self.clock.now())
            yield database


def open_session(
    config: Path | None,
    env_file: Path | None,
    *,
    secrets: bool = True,
    logs: bool = True,
    overrides: Mapping[str, object] = NOTHING,
) -> Session:
    """Load the settings, and set up logging unless the command only reads.

    `secrets`: keys are required. `overrides` are options that replace variables of the environment.
    """
    options = {name: str(value) for name, value in overrides.items() if value is not None}
    redaction = Redaction(())

    def loaded() -> Settings:
        environment = {**surroundings(), **options}
        settings = load(environment, env_file=env_file, config_file=config, secrets_required=secrets)
        redaction.learn(_secrets(settings))
        return settings

    settings = loaded()
    if logs:
        set_up(settings.log_level, settings.log_format, redaction)
    else:
        quiet_libraries()
    return Session(settings, SystemClock(), loaded)


def open_readonly(config: Path | None, env_file: Path | None) -> Session:
    """Open a session for a command that only reads: it requires no keys, and logs nothing."""
    return open_session(config, env_file, secrets=False, logs=False)


def _secrets(settings: Settings) -> Iterator[str]:
    yield settings.ping_url or ""
    yield settings.alert_url or ""
    for connection in settings.connections:
        for key in (connection.api_key, connection.write_key, connection.public_api_token):
            yield key.get_secret_value() if key else ""
        yield from connection.webhook_secrets
    # Not parsed: the engine reports a bad URL. The part between ':' and '@' is the password.
    credentials, at, _ = (settings.database_url or "").rpartition("@")
    password = credentials.partition("://")[2].partition(":")[2] if at else ""
    # A password of three letters would be removed from half of all words.
    yield from (text for text in (password, unquote(password)) if len(text) > 3)

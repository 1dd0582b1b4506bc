"""The options that several commands share, each declared once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import BadParameter, Option

from connector.cli.output import Output
from connector.config import STREAMS


def stream_names(incomplete: str) -> list[str]:
    """Return the streams that a shell may complete a word to."""
    return [name for name in STREAMS if name.startswith(incomplete)]


ConfigFile = Annotated[
    Path | None, Option("--config", help="A TOML file, or a directory of TOML files.", show_default=False)
]
EnvFile = Annotated[
    Path | None, Option("--env-file", help="A file with KEY=VALUE lines.", show_default=False)
]
ConnectionName = Annotated[
    str | None, Option("--connection", help="Use only this connection.", show_default=False)
]
EveryConnection = Annotated[bool, Option("--all", help="Use every connection, several at once.")]
OneShard = Annotated[
    str | None,
    Option(
        "--shard",
        metavar="INDEX/COUNT",
        help="Use only this share of the connections, such as 0/5.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    Option("--workers", min=1, max=64, help="How many connections to work on at once.", show_default=False),
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
OutputFormat = Annotated[Output, Option("--output", help="json prints one JSON object on the last line.")]


def parsed(parse: Callable[[str], Any], word: str | None, option: str) -> Any:
    """Parse an option by the rules of a setting; return None where it was not given."""
    try:
        return None if word is None else parse(word)
    except ValueError as error:
        raise BadParameter(f"{error}.", param_hint=option) from None

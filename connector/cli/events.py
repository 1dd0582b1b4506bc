"""`events` and `config show`: the event catalogue, and the settings in use."""

import json
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import groupby
from typing import Annotated, Any

import typer

from connector.cli.command import Files, Group, open_session, prints_result
from connector.cli.output import Result, echo_err, table_lines
from connector.config import redacted
from connector.segment.events import HEAD, listed, markdown_table, schemas, tracking_plan
from connector.text import Verbatim, table

app = typer.Typer(rich_markup_mode=None)
config_app = typer.Typer(cls=Group, no_args_is_help=True, help="The settings in use.")
app.add_typer(config_app, name="config")


class Form(StrEnum):
    LIST = "list"
    TABLE = "table"
    JSONSCHEMA = "jsonschema"
    TRACKING_PLAN = "tracking-plan"
    MARKDOWN = "markdown"


@app.command()
@prints_result
def events(
    form: Annotated[
        Form,
        typer.Option("--format", help="table is wide; tracking-plan is for Segment's Public API."),
    ] = Form.LIST,
) -> Result:
    """Describe every event: when it is sent, and what each property holds.

    Example: beamer-segment events --format tracking-plan > plan.json
    """
    data: dict[str, Any] = {"properties": [dict(zip(HEAD, cells, strict=True)) for cells in listed()]}
    lines: Iterable[str]
    match form:
        case Form.LIST:
            lines = _list()
        case Form.TABLE:
            lines = map(Verbatim, table(HEAD, list(listed()), None))
        case Form.MARKDOWN:
            lines = [Verbatim(markdown_table().rstrip())]
        case Form.JSONSCHEMA:
            data, lines = {"schemas": schemas()}, [Verbatim(json.dumps(schemas(), indent=2))]
        case Form.TRACKING_PLAN:
            plan = tracking_plan()
            data, lines = {"tracking_plan": plan}, [Verbatim(json.dumps(plan, indent=2))]
    return Result(data, lines)


def _list() -> Iterator[str]:
    """Yield each event with its properties."""
    for (event, when), properties in groupby(listed(), lambda cells: cells[:2]):
        yield f"{event}: {when}"
        yield from (f"  {name} ({kind}): {meaning}" for _, _, name, kind, meaning, *_ in properties)


@config_app.command()
@prints_result
def show(files: Files) -> Result:
    """Show the settings in use and where each comes from; keys are not shown."""
    settings = open_session(*files, secrets=False).settings
    rows = [(setting.name, setting.value, setting.source) for setting in redacted(settings)]
    data = {
        "settings": [{"name": name, "value": value, "source": source} for name, value, source in rows],
        "ignored": list(settings.unused),
        "env_file": settings.env_file and str(settings.env_file),
    }
    if settings.env_file:
        echo_err(f"env file: {settings.env_file}")
    for name in settings.unused:
        echo_err(f"ignored: {name}, which no connection of the configuration file names")
    # The names of a list are separated, so that it can be wrapped.
    shown = [(name, re.sub(r",(?=\S)", ", ", value), source) for name, value, source in rows]
    return Result(data, table_lines("", ("setting", "value", "from"), shown))

"""`events`: the event catalogue, for people and for programs."""

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import typer

from connector.cli.options import OutputFormat
from connector.cli.output import Output, Result, render, table_lines
from connector.segment.schemas import HEAD, listed, markdown_table, schemas, tracking_plan

app = typer.Typer(rich_markup_mode=None)


class Form(StrEnum):
    TABLE = "table"
    JSONSCHEMA = "jsonschema"
    TRACKING_PLAN = "tracking-plan"
    MARKDOWN = "markdown"


@app.command()
def events(
    form: Annotated[
        Form,
        typer.Option("--format", help="tracking-plan: what Segment's Public API takes."),
    ] = Form.TABLE,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Describe every event: when it is sent, and what each property holds.

    Example: beamer-segment events --format tracking-plan > plan.json
    """
    data: dict[str, Any]
    lines: Iterable[str]
    match form:
        case Form.TABLE | Form.MARKDOWN:
            data = {"properties": [dict(zip(HEAD, cells, strict=True)) for cells in listed()]}
            lines = table_lines("", HEAD, listed()) if form is Form.TABLE else [markdown_table().rstrip()]
        case Form.JSONSCHEMA:
            data = {"schemas": schemas()}
            lines = [json.dumps(schemas(), indent=2)]
        case Form.TRACKING_PLAN:
            data = {"tracking_plan": tracking_plan()}
            lines = [json.dumps(tracking_plan(), indent=2)]
    render("events", Result(data, lines), output)

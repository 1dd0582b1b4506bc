"""`events`: the event catalogue, for people and for programs."""

import json

from connector.output import say, table
from connector.segment.listing import HEAD, listed, markdown_table
from connector.segment.schemas import schemas, tracking_plan


def describe(form: str) -> None:
    """Print the catalogue in one of its forms."""
    match form:
        case "table":
            table("", HEAD, listed())
        case "markdown":
            say(markdown_table().rstrip())
        case "jsonschema":
            say(json.dumps(schemas(), indent=2))
        case _:
            say(json.dumps(tracking_plan(), indent=2))

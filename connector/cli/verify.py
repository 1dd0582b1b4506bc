"""`verify`: compares what was sent with what Segment counts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from connector import compose
from connector.cli.command import ConnectionName, Files, open_session, parsed, prints_result
from connector.cli.exit_codes import worst
from connector.cli.output import Reporter, Result, error_dict, exit_of, table_lines
from connector.cli.status import finding_text
from connector.clock import Clock
from connector.config import Connection, values
from connector.errors import ConfigurationError, ConnectorError, Exit
from connector.reporting.proof import Proof, hour_dict, prove, summary
from connector.state import deliveries
from connector.state.engine import Database

app = typer.Typer(rich_markup_mode=None)

COLUMNS = ("hour (UTC)", "event", "sent", "received", "filtered", "failed", "missing", "more")


@app.command()
@prints_result
def verify(
    files: Files,
    reporter: Reporter,
    connection: ConnectionName = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="The first date, at most 30 days ago.", show_default="14 days ago"),
    ] = None,
    every: Annotated[bool, typer.Option("--all-hours", help="Also list hours without a difference.")] = False,
) -> Result:
    """Compare what was sent with what Segment counts, by event and hour; needs a token of its Public API.

    Exits with code 69 if Segment lost or dropped messages, and prints what to do.

    Example: beamer-segment verify --since 2024-03-01
    """
    first = parsed(values.moment, since, "--since", values.A_DATE)
    session = open_session(*files)
    results: list[dict[str, Any]] = []
    with session.database() as database:
        for chosen in session.named(connection):
            try:
                proof = proved(database, chosen, session.clock, first)
            except ConnectorError as error:
                reporter.summary([], chosen.name, error)
                results.append(
                    {"connection": chosen.name, "exit": exit_of(error), "error": error_dict(error)}
                )
                continue
            reporter.summary([*summary(proof), *_problem_lines(proof)])
            reporter.summary([*table_lines("", COLUMNS, _cells(proof, every=every))])
            results.append(_result(proof))
    return Result({"connections": results}, exit=worst(result["exit"] for result in results))


def proved(database: Database, connection: Connection, clock: Clock, since: datetime | None = None) -> Proof:
    """Compare with Segment's counts, and store the result."""
    now = clock.now()
    with compose.public_api(connection, clock) as api:
        if api is None:
            raise _no_token(connection.name)
        _, write_key = compose.secrets(connection)
        proof = prove(database, api, connection.name, write_key, connection.source_id, now, since)
    deliveries.save(database, connection.name, proof.as_dict(), now)
    return proof


def _no_token(connection: str) -> ConfigurationError:
    return ConfigurationError(
        f"Connection '{connection}' has no token of Segment's Public API.",
        means="Segment confirmed every message that is counted as sent. Whether it kept them is not proven.",
        todo="Set SEGMENT_PUBLIC_API_TOKEN (Team and Business plans). Without it, look into the Debugger of "
        "the source in Segment.",
    )


def _result(proof: Proof) -> dict[str, Any]:
    code = Exit.UNREACHABLE if proof.problems else Exit.DONE
    hours = [hour_dict(row) for row in proof.rows]
    return {"connection": proof.connection, "exit": int(code), **proof.as_dict(), "hours": hours}


def _problem_lines(proof: Proof) -> list[str]:
    return [line for fault in proof.problems for line in finding_text("warning", fault.found, fault.todo)]


def _cells(proof: Proof, *, every: bool) -> Sequence[Sequence[Any]]:
    return [
        (
            f"{row.hour:%Y-%m-%d %H:%M}",
            row.event,
            row.sent.messages,
            row.counts.received,
            row.counts.filtered if proof.complete else "?",
            row.counts.failed if proof.complete else "?",
            f"{row.missing}{'' if row.settled or not row.missing else ' (yet)'}",
            row.more,
        )
        for row in proof.rows
        if every or row.missing or row.more or row.discarded
    ]

"""`backfill`: history, estimated first, then sent within the limits."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Annotated, Any

import typer

from connector import compose, heap
from connector.beamer.streams import CATALOGUE
from connector.cli.connection_run import narrowed, note_outcome, open_run
from connector.cli.context import Session, open_session
from connector.cli.exit_codes import stopping
from connector.cli.options import (
    ConfigFile,
    ConnectionName,
    EnvFile,
    MostRequests,
    NewStore,
    OutputFormat,
    StreamNames,
    parsed,
)
from connector.cli.output import Output, Reporter, Result, echo_err, progress_bar, render
from connector.config import Connection, values
from connector.errors import ConnectorError, Exit
from connector.reporting import summary
from connector.reporting.status_json import backfill_dict
from connector.state import backfills
from connector.state.backfills import Backfill, Range
from connector.state.engine import Database
from connector.state.ledger import Balance
from connector.sync.backfill.estimate import Estimate
from connector.sync.backfill.estimate_requests import requested_estimate
from connector.sync.backfill.run import BackfillOrder, BackfillRun, judging
from connector.sync.context import Parts
from connector.sync.delivery import ThreadedDelivery
from connector.sync.report import Report
from connector.sync.run import Outcome

app = typer.Typer(rich_markup_mode=None)

# Segment answers in about 100 ms: with four batches in flight, delivery keeps up with reading.
LANES = 4
# Freed memory is given back to the system after so many pages.
TRIM_EVERY = 200
HOLDS_SOMETHING = "Give a --since that is before --until; without --until the range ends now."


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillOptions:
    """What the command line asked for. `share` is of the requests that are left of the month."""

    since: datetime
    until: datetime | None
    streams: tuple[str, ...]
    max_requests: int | None
    share: float | None
    resend: bool
    again: bool
    integrations: dict[str, Any] | None
    dry_run: bool
    yes: bool


class Unclear(ConnectorError):
    """A required option of a backfill is missing or invalid."""

    code = "BS-064"
    exit = Exit.USAGE
    default_means = "Nothing was read or sent."


@app.command()
def backfill(
    since: Annotated[str, typer.Option("--since", help="The first date, such as 2024-01-01 (UTC).")],
    until: Annotated[
        str | None, typer.Option("--until", help="Send rows before this date.", show_default="now")
    ] = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    share: Annotated[
        str | None,
        typer.Option("--share", help="Send at most this share of the requests left this month, such as 50%."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print an estimate only; it takes at most three requests.")
    ] = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="Also send rows that were sent before, with the same messageIds.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read a range again that is complete already.")
    ] = False,
    integrations: Annotated[
        str | None,
        typer.Option(
            "--integrations", help='Destinations of history: \'{"All": false, "Amplitude": true}\'.'
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send to every destination without asking.")] = False,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Send history: rows older than the start date, with their own timestamps.

    You can stop it at any time. The same command continues it, on any machine with the same database.

    Example: beamer-segment backfill --since 2024-01-01 --max-requests 300
    """
    options = BackfillOptions(
        since=parsed(values.moment, since, "--since"),
        until=parsed(values.moment, until, "--until"),
        streams=tuple(stream or ()),
        max_requests=max_requests,
        share=parsed(values.share, share, "--share"),
        resend=resend,
        again=again,
        integrations=parsed(values.json_object, integrations, "--integrations"),
        dry_run=dry_run,
        yes=yes,
    )
    session, reporter = open_session(config, env_file), Reporter(output)
    chosen = session.settings.connection(connection)
    with session.database(new_store) as database, stopping(session.clock) as signalled:
        done = bring_history(session, database, chosen, options, typer.confirm, reporter)
    result = Result({"connections": [done]}, exit=signalled() or done["exit"])
    raise typer.Exit(render("backfill", result, output))


def bring_history(
    session: Session,
    database: Database,
    connection: Connection,
    options: BackfillOptions,
    confirm: Callable[[str], bool],
    reporter: Reporter,
) -> dict[str, Any]:
    """Estimate, ask for confirmation, and read; `confirm` asks a question at the terminal."""
    heap.keep_small()
    with open_run(session, database, connection, tries=not options.dry_run) as opened:
        return _backfill(session, opened.parts, connection, options, confirm, reporter)


def _backfill(
    session: Session,
    parts: Parts,
    connection: Connection,
    options: BackfillOptions,
    confirm: Callable[[str], bool],
    reporter: Reporter,
) -> dict[str, Any]:
    wanted = _range(parts, connection, options)
    earlier = backfills.find(parts.database, connection.name, wanted)
    if earlier and earlier.finished_at and not options.again:
        reporter.summary([_finished(connection.name, earlier)])
        return {"connection": connection.name, "exit": 0, "backfill": backfill_dict(earlier)}
    unfinished = earlier if earlier and not earlier.finished_at else None
    estimated = None if unfinished else requested_estimate(parts, wanted)
    reporter.summary(_before(connection.name, wanted, unfinished, estimated, parts))
    data = {"connection": connection.name, "estimate": estimated and estimated.as_dict()}
    if options.dry_run:
        unanswered = estimated is not None and estimated.unanswered
        exit_code = int(Exit.UNREACHABLE if unanswered else Exit.DONE)
        return {**data, "exit": exit_code, "backfill": unfinished and backfill_dict(unfinished)}
    allowance = _allowance(parts, options)
    where = options.integrations if options.integrations is not None else connection.backfill_integrations
    if where is None and not unfinished:
        _confirm_destinations(options, confirm)
    # With lists that no sync has seen, the estimate is a lower bound: the bar shows no end then.
    expected = estimated.most_requests if estimated and not estimated.unknown else None
    order = BackfillOrder(wanted, where, allowance, expected, again=options.again)
    outcome, history = _go(parts, order)
    return {**data, **_ended(session, parts, connection, outcome, history, reporter)}


def _go(parts: Parts, order: BackfillOrder) -> tuple[Outcome, Backfill]:
    trimmed = 0
    with progress_bar(f"{parts.identity.name}: backfill") as update:

        def on_progress(report: Report, history: Backfill) -> None:
            nonlocal trimmed
            update(history.requests + report.requests_spent, history.expected, report)
            if report.requests_spent - trimmed >= TRIM_EVERY:
                trimmed = report.requests_spent
                heap.give_back()

        return BackfillRun(parts, order, worker=ThreadedDelivery, lanes=LANES, on_progress=on_progress).go()


def _range(parts: Parts, connection: Connection, options: BackfillOptions) -> Range:
    now = parts.clock.now()
    for option, date in (("--since", options.since), ("--until", options.until or now)):
        try:
            values.believable(date, now)
        except ValueError as error:
            raise Unclear(f"{option}: {error}.", todo=HOLDS_SOMETHING) from None
    if (options.until or now) <= options.since:
        end = "--until" if options.until else "Now"
        raise Unclear(f"{end} is not later than --since.", todo=HOLDS_SOMETHING)
    narrowed(connection, options.streams)
    chosen = options.streams or connection.streams
    names = tuple(name for name in CATALOGUE if name in chosen)
    return Range(options.since, options.until, names, judging(parts.policy), options.resend)


def _finished(name: str, earlier: Backfill) -> str:
    return (
        f"{name}: this range is complete since {earlier.finished_at:%Y-%m-%d %H:%M} UTC, with "
        f"{earlier.requests:,} requests; --again reads it again"
    )


# --- before -------------------------------------------------------------------------------------------


def _before(
    name: str, wanted: Range, unfinished: Backfill | None, estimated: Estimate | None, parts: Parts
) -> list[str]:
    until = f"{wanted.until:%Y-%m-%d %H:%M} UTC" if wanted.until else "now"
    title = f"{name}: history from {wanted.since:%Y-%m-%d %H:%M} UTC until {until}"
    if unfinished:
        of = "" if unfinished.expected is None else f" of about {unfinished.expected:,}"
        return [f"{title}: continuing after {unfinished.requests:,}{of} requests, {unfinished.rows:,} rows"]
    if estimated is None:
        return [title]
    requests, rows = (
        _span(estimated.requests, estimated.most_requests),
        _span(estimated.rows, estimated.most_rows),
    )
    lines = [
        title,
        f"  about {requests} requests: {_how_long(estimated.most_requests, parts)}",
        f"  {rows} rows, of at most {estimated.users:,} different users; Segment counts each user that "
        "is new this month as a monthly tracked user",
    ]
    if estimated.unknown:
        lines.append(
            f"  not counted: {', '.join(estimated.unknown)}; no sync has checked them yet, and each list "
            "that is not empty adds at least one request"
        )
    for stream, why in estimated.failures.items():
        lines.append(f"  not counted: {stream}: {why} Its rows are missing in this estimate.")
    if wanted.resend:
        lines.append(
            "  rows that were sent before are sent again with the same messageIds: Segment drops those "
            "it received within a day, but destinations may receive older events twice"
        )
    return lines


def _span(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _how_long(requests: int, parts: Parts) -> str:
    """Say how long so many requests take, by the rate limit or by what is left of the month."""
    balance, limits = parts.ledger.balance(parts.clock.now()), parts.ledger.limits
    if balance.closed_until:
        return f"no request can be sent before {balance.closed_until:%Y-%m-%d %H:%M} UTC (429)"
    if balance.left is None or requests <= balance.left:
        return f"{_lasts(requests / limits.per_second)} at {limits.per_second:g} requests a second"
    left = f"{balance.left:,} are left this month" if balance.left else "none is left this month"
    again = f" until {balance.again:%Y-%m-%d %H:%M} UTC" if balance.again and not balance.left else ""
    whole = f"; it takes the full quota of {ceil(requests / limits.usable)} months" if limits.usable else ""
    return f"{left}{again}{whole}"


def _lasts(seconds: float) -> str:
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _allowance(parts: Parts, options: BackfillOptions) -> int | None:
    """Return how many requests the backfill may spend; None without a limit."""
    left = parts.ledger.balance(parts.clock.now()).left
    if left is None:
        return options.max_requests
    if options.max_requests is None and options.share is None:
        raise Unclear(
            f"This plan has a monthly limit, and {left:,} requests are left this month.",
            todo="Limit the requests of the backfill: --max-requests 300, or --share 50%.",
        )
    allowed = left if options.share is None else int(left * options.share)
    return min(allowed, left if options.max_requests is None else options.max_requests)


def _confirm_destinations(options: BackfillOptions, confirm: Callable[[str], bool]) -> None:
    echo_err(
        "History goes to every destination of the Segment source. Some destinations accept no old data, "
        'some act on each event.\nTo choose: --integrations \'{"All": false, "Amplitude": true}\''
    )
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise Unclear(
            "There is no terminal to ask for confirmation.",
            todo="Confirm with --yes.",
        )
    if not confirm("Send history to all destinations?"):
        raise Unclear(
            "This was not confirmed.",
            todo="Choose destinations with --integrations.",
        )


# --- after --------------------------------------------------------------------------------------------


def _ended(
    session: Session,
    parts: Parts,
    connection: Connection,
    outcome: Outcome,
    history: Backfill,
    reporter: Reporter,
) -> dict[str, Any]:
    now = session.clock.now()
    note_outcome(parts.database, connection, outcome, now)
    balance = parts.ledger.balance(now)
    differs = any(not difference.settled for difference in outcome.report.differences)
    lines = [
        *summary.lines(connection.name, outcome, balance, connection.limit_text),
        f"  {_how_far(history, balance, parts.ledger.limits.usable, differs=differs)}",
    ]
    reporter.summary(lines, error=outcome.error and compose.of_connection(outcome.error, connection))
    return {
        **summary.as_dict(connection.name, outcome, balance, connection.limit_text),
        "exit": int(outcome.exit),
        "backfill": backfill_dict(history),
    }


def _how_far(history: Backfill, balance: Balance, usable: int | None, *, differs: bool) -> str:
    """Say what remains, and how much quota it takes."""
    if history.finished_at:
        did = f"{history.requests:,} requests, {history.rows:,} rows, {history.events:,} events"
        return f"backfill complete: {did} in total"
    left = max(1, history.expected - history.requests) if history.expected else None
    said = f"backfill not complete after {history.requests:,} requests"
    if differs:
        return (
            f"{said}: Beamer counts more rows than its lists show; the same command reads these lists "
            "again, and accepts a list that shows the same number after an hour"
        )
    if left is None:
        return f"{said}; the same command continues"
    said = f"{said}; about {left:,} requests remain, and the same command continues"
    if balance.left is None or usable is None or not usable:
        return said
    if left <= balance.left:
        return f"{said} (enough requests are left this month)"
    return f"{said} (the full quota of {ceil(left / usable)} months)"

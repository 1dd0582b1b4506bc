"""`backfill`: history, estimated first, then sent within the limits."""

import sys
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Annotated, Any

import typer

from connector import compose, heap
from connector.cli.command import (
    ConnectionName,
    Files,
    MostRequests,
    NewStore,
    StreamNames,
    open_session,
    parsed,
    prints_result,
)
from connector.cli.connection_run import Runner
from connector.cli.exit_codes import stopping
from connector.cli.output import Reporter, Result, echo_err, progress_bar
from connector.config import Connection, values
from connector.errors import ConnectorError, Exit
from connector.reporting.health import backfill_dict
from connector.state import backfills
from connector.state.backfills import Backfill, Range
from connector.sync.backfill.estimate import Estimate, requested_estimate
from connector.sync.backfill.run import BackfillOrder, BackfillRun, judging
from connector.sync.context import RunContext
from connector.sync.delivery import ThreadedDelivery
from connector.sync.report import Report
from connector.text import counted

app = typer.Typer(rich_markup_mode=None)

# Segment answers in about 100 ms: with four batches in flight, delivery keeps up with reading.
LANES = 4
# Freed memory is returned to the system after this number of pages.
TRIM_EVERY = 200
HOLDS_SOMETHING = "Give a --since that is before --until; without --until the range ends now."


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillOptions:
    """The command's options. `share` is a share of the requests that are left of the month."""

    since: datetime
    until: datetime | None = None
    streams: tuple[str, ...] = ()
    max_requests: int | None = None
    share: float | None = None
    resend: bool = False
    again: bool = False
    integrations: dict[str, Any] | None = None
    dry_run: bool = False
    yes: bool = False


A_DESTINATION = '\'{"All": false, "Amplitude": true}\''


class Unclear(ConnectorError):
    """Raised when a required option of a backfill is missing or invalid."""

    code = "BS-064"
    exit = Exit.USAGE
    default_means = "Nothing was read or sent."


@app.command()
@prints_result
def backfill(
    files: Files,
    reporter: Reporter,
    since: Annotated[str, typer.Option("--since", help="The first date, such as 2024-01-01 (UTC).")],
    until: Annotated[
        str | None, typer.Option("--until", help="Send rows before this date.", show_default="now")
    ] = None,
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
        typer.Option("--integrations", help=f"Destinations of history: {A_DESTINATION}."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send to every destination without asking.")] = False,
    new_store: NewStore = False,
) -> Result:
    """Send history: rows older than the start date, with their own timestamps.

    You can stop it at any time. The same command continues it, on any machine with the same database.

    Example: beamer-segment backfill --since 2024-01-01 --max-requests 300
    """
    options = BackfillOptions(
        since=parsed(values.moment, since, "--since", values.A_DATE),
        until=parsed(values.moment, until, "--until", values.A_DATE),
        streams=tuple(stream or ()),
        max_requests=max_requests,
        share=parsed(values.share, share, "--share", "a share such as 50%"),
        resend=resend,
        again=again,
        integrations=parsed(values.json_object, integrations, "--integrations", A_DESTINATION),
        dry_run=dry_run,
        yes=yes,
    )
    session = open_session(*files)
    chosen = session.settings.connection(connection)
    with session.database(new_store) as database, stopping(session.clock) as signalled:
        done = bring_history(Runner(session, database, reporter), chosen, options)
    return Result({"connections": [done]}, exit=signalled() or done["exit"])


def bring_history(runner: Runner, connection: Connection, options: BackfillOptions) -> dict[str, Any]:
    """Estimate, ask for confirmation, and read; return the result."""
    heap.keep_small()
    with runner.opened(connection, tries=not options.dry_run) as opened:
        context = opened.context
        wanted = _range(context, connection, options)
        earlier = backfills.find(context.database, connection.name, wanted)
        if earlier and earlier.finished_at and not options.again:
            done = f"{earlier.finished_at:%Y-%m-%d %H:%M} UTC, with {counted(earlier.requests, 'request')}"
            runner.reporter.summary(
                [f"{connection.name}: this range is complete since {done}; --again reads it again"]
            )
            return {"connection": connection.name, "exit": 0, "backfill": backfill_dict(earlier)}
        unfinished = earlier if earlier and not earlier.finished_at else None
        estimated = None if unfinished else requested_estimate(context, wanted)
        runner.reporter.summary(_before(connection.name, wanted, unfinished, estimated, context))
        data = {"connection": connection.name, "estimate": estimated and estimated.as_dict()}
        if options.dry_run:
            unanswered = estimated is not None and estimated.unanswered
            exit_code = int(Exit.UNREACHABLE if unanswered else Exit.DONE)
            return {**data, "exit": exit_code, "backfill": unfinished and backfill_dict(unfinished)}
        allowance = _allowance(context, options)
        where = options.integrations if options.integrations is not None else connection.backfill_integrations
        if where is None and not unfinished:
            _confirm_destinations(options)
        # With lists that no sync has seen, the estimate is a lower bound: the bar shows no end then.
        expected = estimated.most_requests if estimated and not estimated.unknown else None
        order = BackfillOrder(wanted, where, allowance, expected, again=options.again)
        return {**data, **_read(runner, context, connection, order)}


def _range(context: RunContext, connection: Connection, options: BackfillOptions) -> Range:
    now = context.clock.now()
    for option, date in (("--since", options.since), ("--until", options.until or now)):
        try:
            values.believable(date, now)
        except ValueError as error:
            raise Unclear(f"{option}: {error}.", todo=HOLDS_SOMETHING) from None
    if (options.until or now) <= options.since:
        end = "--until" if options.until else "Now"
        raise Unclear(f"{end} is not later than --since.", todo=HOLDS_SOMETHING)
    chosen = options.streams or connection.streams
    names = tuple(name for name in compose.catalogue(connection, chosen) if name in chosen)
    return Range(options.since, options.until, names, judging(context.policy), options.resend)


# --- before -------------------------------------------------------------------------------------------


def _before(
    name: str, wanted: Range, unfinished: Backfill | None, estimated: Estimate | None, context: RunContext
) -> list[str]:
    until = f"{wanted.until:%Y-%m-%d %H:%M} UTC" if wanted.until else "now"
    title = f"{name}: history from {wanted.since:%Y-%m-%d %H:%M} UTC until {until}"
    if unfinished:
        requests = counted(unfinished.requests, "request")
        if unfinished.expected is not None:
            requests = f"{unfinished.requests:,} of about {counted(unfinished.expected, 'request')}"
        return [f"{title}: continuing after {requests}, {counted(unfinished.rows, 'row')}"]
    if estimated is None:
        return [title]
    requests = _span(estimated.requests, estimated.most_requests, "request")
    rows = _span(estimated.rows, estimated.most_rows, "row")
    lines = [
        title,
        f"  about {requests}: {_how_long(estimated.most_requests, context)}",
        f"  {rows}, of at most {counted(estimated.users, 'different user')}; Segment counts each user that "
        "is new this month as a monthly tracked user",
    ]
    if estimated.unknown:
        lines.append(
            f"  not counted: {', '.join(estimated.unknown)}; no sync has checked them yet, and each list "
            "that is not empty adds at least one request"
        )
    start = context.policy.start
    if not wanted.resend and (wanted.until is None or wanted.until > start):
        lines.append(
            f"  rows from {start:%Y-%m-%d %H:%M} UTC on are counted, too: those that syncs have sent are not "
            "sent again"
        )
    for stream, why in estimated.failures.items():
        lines.append(f"  not counted: {stream}: {why} Its rows are missing in this estimate.")
    if wanted.resend:
        lines.append(
            "  rows that were sent before are sent again with the same messageIds: Segment drops those "
            "it received within a day, but destinations may receive older events twice"
        )
    return lines


def _span(least: int, most: int, noun: str) -> str:
    return counted(most, noun) if least == most else f"{least:,} to {counted(most, noun)}"


def _how_long(requests: int, context: RunContext) -> str:
    """Return how long so many requests take, by the rate limit or by what is left of the month."""
    balance, limits = context.ledger.balance(context.clock.now()), context.ledger.limits
    if balance.closed_until:
        return f"no request can be sent before {balance.closed_until:%Y-%m-%d %H:%M} UTC (429)"
    if balance.left is None or requests <= balance.left:
        return f"{_lasts(requests / limits.per_second)} at {limits.per_second:g} requests a second"
    left = f"{balance.left:,} are left this month" if balance.left else "none is left this month"
    again = f" until {balance.again:%Y-%m-%d %H:%M} UTC" if balance.again and not balance.left else ""
    whole = (
        f"; it takes the full quota of {counted(ceil(requests / limits.usable), 'month')}"
        if limits.usable
        else ""
    )
    return f"{left}{again}{whole}"


def _lasts(seconds: float) -> str:
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _allowance(context: RunContext, options: BackfillOptions) -> int | None:
    """Return how many requests the backfill may spend; None without a limit."""
    left = context.ledger.balance(context.clock.now()).left
    if left is None:
        return options.max_requests
    if options.max_requests is None and options.share is None:
        raise Unclear(
            f"This plan has a monthly limit, and this month has {counted(left, 'request')} left.",
            means="Nothing was sent to Segment; the estimate took at most three requests.",
            todo="Limit the requests of the backfill: --max-requests 300, or --share 50%.",
        )
    allowed = left if options.share is None else int(left * options.share)
    return min(allowed, left if options.max_requests is None else options.max_requests)


def _confirm_destinations(options: BackfillOptions) -> None:
    echo_err(
        "History goes to every destination of the Segment source. Some destinations accept no old data, "
        'some act on each event.\nTo choose: --integrations \'{"All": false, "Amplitude": true}\''
    )
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise Unclear("There is no terminal to ask for confirmation.", todo="Confirm with --yes.")
    if not typer.confirm("Send history to all destinations?"):
        raise Unclear("This was not confirmed.", todo="Choose destinations with --integrations.")


# --- reading and after --------------------------------------------------------------------------------


def _read(
    runner: Runner, context: RunContext, connection: Connection, order: BackfillOrder
) -> dict[str, Any]:
    """Read and send history, print the progress, and return it."""
    with progress_bar(f"{connection.name}: backfill") as update:

        def on_progress(report: Report, history: Backfill) -> None:
            update(history.requests + report.requests_spent, history.expected, report)
            if report.pages % TRIM_EVERY == 0:
                heap.give_back()

        run = BackfillRun(context, order, worker=ThreadedDelivery, lanes=LANES, on_progress=on_progress)
        outcome, history = run.go()
    runner.note(connection, outcome)
    differs = any(not difference.settled for difference in outcome.report.differences)
    summary = runner.summarize(
        context, connection, outcome, f"  {_how_far(context, history, differs=differs)}"
    )
    return {**summary, "backfill": backfill_dict(history)}


def _how_far(context: RunContext, history: Backfill, *, differs: bool) -> str:
    """Return what remains, and how many requests it takes."""
    if history.finished_at:
        did = (counted(history.requests, "request"), counted(history.rows, "row"))
        return f"backfill complete: {', '.join(did)}, {counted(history.events, 'event')} in total"
    remaining = max(1, history.expected - history.requests) if history.expected else None
    stands = f"backfill not complete after {counted(history.requests, 'request')}"
    if differs:
        return (
            f"{stands}: Beamer counts more rows than its lists show; the same command reads these lists "
            "again, and accepts a list that shows the same number after an hour"
        )
    if remaining is None:
        return f"{stands}; the same command continues"
    stands = f"{stands}; it needs about {counted(remaining, 'more request')}, and the same command continues"
    left, usable = context.ledger.balance(context.clock.now()).left, context.ledger.limits.usable
    if left is None or not usable:
        return stands
    if remaining <= left:
        return f"{stands} (enough requests are left this month)"
    return f"{stands} (the full quota of {counted(ceil(remaining / usable), 'month')})"

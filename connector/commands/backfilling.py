"""`backfill`: history, estimated first, then brought as far as it may go."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

import structlog

from connector import compose, heap
from connector.beamer.asking import Ask
from connector.beamer.catalogue import CATALOGUE, Stream
from connector.beamer.pages import iso
from connector.commands.meter import meter
from connector.commands.session import Session
from connector.commands.syncing import narrowed
from connector.config import Connection, values
from connector.errors import ConnectorError, Exit
from connector.output import complain, explain, say
from connector.service import summary, suspension
from connector.service.status_dict import backfill_dict
from connector.state import backfills, progress
from connector.state.backfills import Backfill, Range
from connector.state.engine import Store
from connector.state.ledger import Balance
from connector.state.spending import ALLOWANCE
from connector.sync.backfill.estimate import Estimate, estimate, to_count
from connector.sync.backfill.run import BackfillOrder, BackfillRun, judging
from connector.sync.courier import ThreadCourier
from connector.sync.lists import counters
from connector.sync.parts import Parts
from connector.sync.report import Report
from connector.sync.running import Outcome

log = structlog.get_logger()

# Segment answers in some 100 ms: with so many batches under way it takes as much as Beamer gives.
LANES = 4
# After so many pages the heap is tidied up.
TIDIED_EVERY = 200
HOLDS_SOMETHING = "Give a range that holds something; without --until it ends now."


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillWishes:
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
    """A backfill that was not told what it has to be told."""

    code = "BS-064"
    exit = Exit.USAGE
    default_means = "Nothing was read or sent."


def backfill(
    here: Session,
    store: Store,
    connection: Connection,
    wishes: BackfillWishes,
    ask: Callable[[str], bool],
    *,
    text: bool,
) -> dict[str, Any]:
    """Estimate, make sure, and bring; `ask` puts a question to whoever sits at the terminal."""
    keys = compose.keys_in_use(connection)
    suspension.refuse_suspended(store, connection.name, keys)
    heap.keep_small()
    with compose.working(here.settings, connection, store, here.clock) as parts:
        return _backfill(here, parts, connection, wishes, ask, text=text)


def _backfill(
    here: Session,
    parts: Parts,
    connection: Connection,
    wishes: BackfillWishes,
    ask: Callable[[str], bool],
    *,
    text: bool,
) -> dict[str, Any]:
    wanted = _range(parts, connection, wishes)
    found = backfills.find(parts.store, connection.name, wanted)
    if found and found.finished_at and not wishes.again:
        return _finished(connection.name, found, text=text)
    going_on = found if found and not found.finished_at else None
    guess = None if going_on else _estimated(parts, wanted)
    if text:
        for line in _before(connection.name, wanted, going_on, guess, parts):
            say(line)
    told = {"connection": connection.name, "estimate": guess and guess.as_dict()}
    if wishes.dry_run:
        return {**told, "exit": 0, "backfill": going_on and backfill_dict(going_on)}
    allowance = _allowance(parts, wishes)
    where = wishes.integrations if wishes.integrations is not None else connection.backfill_integrations
    if where is None and not going_on:
        _make_sure(wishes, ask)
    # Where lists were never seen, the estimate is but a beginning: no bar should promise an end by it.
    expected = guess.most_requests if guess and not guess.unknown else None
    order = BackfillOrder(wanted, where, allowance, expected, again=wishes.again)
    tidied = 0
    with meter(f"{connection.name}: backfill") as tell:

        def on_progress(report: Report, of: Backfill) -> None:
            nonlocal tidied
            tell(of.requests + report.asked, of.expected, report)
            if report.asked - tidied >= TIDIED_EVERY:
                tidied = report.asked
                heap.give_back()

        history = BackfillRun(parts, order, courier=ThreadCourier, lanes=LANES, on_progress=on_progress)
        outcome, of = history.go()
    return {**told, **_ended(here, parts, connection, outcome, of, text=text)}


def _range(parts: Parts, connection: Connection, wishes: BackfillWishes) -> Range:
    now = parts.clock.now()
    for option, date in (("--since", wishes.since), ("--until", wishes.until or now)):
        try:
            values.believable(date, now)
        except ValueError as error:
            raise Unclear(f"{option}: {error}.", todo=HOLDS_SOMETHING) from None
    if (wishes.until or now) <= wishes.since:
        end = "--until" if wishes.until else "Now"
        raise Unclear(f"{end} is not later than --since.", todo=HOLDS_SOMETHING)
    narrowed(connection, wishes.streams)
    chosen = wishes.streams or connection.streams
    names = tuple(name for name in CATALOGUE if name in chosen)
    return Range(wishes.since, wishes.until, names, judging(parts.policy), wishes.resend)


def _finished(name: str, found: Backfill, *, text: bool) -> dict[str, Any]:
    if text:
        say(
            f"{name}: this range was brought already, by {found.finished_at:%Y-%m-%d %H:%M} UTC, "
            f"with {found.requests:,} requests; --again reads it once more"
        )
    return {"connection": name, "exit": 0, "backfill": backfill_dict(found)}


# --- before -------------------------------------------------------------------------------------------


def _estimated(parts: Parts, wanted: Range) -> Estimate:
    """From what syncs have seen of the counters; what they have not is counted, at most once a list."""
    known = progress.peek(parts.store, parts.identity.name)
    counted = {}
    for stream, since, until in to_count(parts.catalogue, wanted, known):
        count = _count(parts, stream, since, until)
        if count is not None:
            counted[stream.name] = count
    return estimate(parts.catalogue, wanted, known, counted)


def _count(parts: Parts, stream: Stream, since: datetime | None, until: datetime | None) -> int | None:
    bounds = {"dateFrom": since and iso(since), "dateTo": until and iso(until)}
    params = tuple((name, value) for name, value in bounds.items() if value)
    try:
        at = parts.ledger.take(ALLOWANCE, parts.clock.now())
        answer = parts.beamer.get(Ask(f"{stream.path}/count", params), at)
    except ConnectorError as error:
        # An estimate is worth no failure; what is wrong shows as soon as rows are asked for.
        log.info("not_counted", stream=stream.name, error=error.what)
        return None
    return counters.counted(answer.body)


def _before(
    name: str, wanted: Range, going_on: Backfill | None, guess: Estimate | None, parts: Parts
) -> list[str]:
    until = f"{wanted.until:%Y-%m-%d %H:%M} UTC" if wanted.until else "now"
    title = f"{name}: history from {wanted.since:%Y-%m-%d %H:%M} UTC until {until}"
    if going_on:
        of = "" if going_on.expected is None else f" of about {going_on.expected:,}"
        return [f"{title}: going on after {going_on.requests:,}{of} requests, {going_on.rows:,} rows"]
    if guess is None:
        return [title]
    requests, rows = _span(guess.requests, guess.most_requests), _span(guess.rows, guess.most_rows)
    pace = parts.ledger.limits.per_second
    lines = [
        title,
        f"  about {requests} requests: {_lasts(guess.most_requests / pace)} at {pace:g} a second",
        f"  {rows} rows, of at most {guess.users:,} different users; "
        "each whom Segment has not seen this month counts as a monthly tracked user",
    ]
    if guess.unknown:
        lines.append(
            f"  not counted: {', '.join(guess.unknown)}; no sync has looked yet, "
            "and each list that is not empty adds a request or more"
        )
    if wanted.resend:
        lines.append(
            "  what was sent before is sent once more under the same messageId: Segment drops what it got "
            "within a day, but destinations may see older events twice"
        )
    return lines


def _span(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _lasts(seconds: float) -> str:
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _allowance(parts: Parts, wishes: BackfillWishes) -> int | None:
    """How many requests it may spend; None without a limit."""
    left = parts.ledger.balance(parts.clock.now()).left
    if left is None:
        return wishes.max_requests
    if wishes.max_requests is None and wishes.share is None:
        raise Unclear(
            f"This plan has a monthly limit, and {left:,} requests are left of it.",
            todo="Say how many of them history may take: --max-requests 300, or --share 50%.",
        )
    allowed = left if wishes.share is None else int(left * wishes.share)
    return min(allowed, left if wishes.max_requests is None else wishes.max_requests)


def _make_sure(wishes: BackfillWishes, ask: Callable[[str], bool]) -> None:
    complain(
        "History goes to every destination of the Segment source: some take no old data, some act on each "
        'event.\nTo choose: --integrations \'{"All": false, "Amplitude": true}\''
    )
    if wishes.yes:
        return
    if not sys.stdin.isatty():
        raise Unclear("Nobody can be asked whether that is meant.", todo="Say so: --yes.")
    if not ask("Send it to all of them?"):
        raise Unclear("It was not meant.", todo="Choose with --integrations.")


# --- after --------------------------------------------------------------------------------------------


def _ended(
    here: Session, parts: Parts, connection: Connection, outcome: Outcome, of: Backfill, *, text: bool
) -> dict[str, Any]:
    now = here.clock.now()
    suspension.note(parts.store, connection.name, compose.keys_in_use(connection), outcome.error, now)
    balance = parts.ledger.balance(now)
    if text:
        for line in summary.lines(connection.name, outcome, balance, connection.limit_text):
            say(line)
        say(f"  {_how_far(of, balance, parts.ledger.limits.usable)}")
    if outcome.error:
        explain(compose.of_connection(outcome.error, connection))
    return {
        **summary.as_dict(connection.name, outcome, balance, connection.limit_text),
        "exit": int(outcome.exit),
        "backfill": backfill_dict(of),
    }


def _how_far(of: Backfill, balance: Balance, usable: int | None) -> str:
    """What remains, and when it could be done."""
    if of.finished_at:
        return f"backfill complete: {of.requests:,} requests, {of.rows:,} rows, {of.events:,} events in all"
    left = max(1, of.expected - of.requests) if of.expected else None
    said = f"backfill not complete after {of.requests:,} requests"
    if left is None:
        return f"{said}; the same command goes on"
    said = f"{said}; about {left:,} remain, and the same command goes on"
    if balance.left is None or usable is None or not usable:
        return said
    if left <= balance.left:
        return f"{said} (as many are left this month)"
    return f"{said} (that is {ceil(left / usable)} months' whole quota)"

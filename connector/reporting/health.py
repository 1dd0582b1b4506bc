"""The health of a connection in one word, and its problems, each with what to do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING

from connector.beamer.pagination import Cursor, Habits, params_of
from connector.beamer.request import BeamerRequest
from connector.beamer.streams import Stream
from connector.errors import (
    ConnectorError,
    Forbidden,
    KeyRefused,
    NothingAllowed,
    StateDamaged,
    Stopped,
    WriteKeyRefused,
)
from connector.reporting.spend_rate import HOUR
from connector.reporting.status import Status
from connector.state import credentials, suspensions
from connector.state.credentials import CONFIRM, Verdict, todo_of
from connector.state.engine import Database
from connector.state.suspensions import Api, Refusal, Secrets

if TYPE_CHECKING:
    from connector.sync.context import Parts

# How to come out of it, by the API that refused.
WAY_OUT = {
    "beamer": "Replace the Beamer key. The same key is tried again automatically; `beamer-segment check` "
    "tries it at once, and ends the suspension if it works.",
    "segment": "Replace the Segment write key. The same key is tried again automatically; "
    "`beamer-segment check --send-test` tries it at once, and ends the suspension if it works.",
}


UNTRIED = (
    "the Beamer key was never used, because no request was available: it is unknown whether it is right "
    "(`beamer-segment check` tries it with a request that is left this month)"
)


class Suspended(KeyRefused):
    """The key was refused in an earlier run and is still the same."""

    default_means = "Nothing was read or sent: each try with a refused key may cost a request."


def refuse_suspended(
    database: Database,
    connection: str,
    secrets: Secrets,
    now: datetime | None = None,
    *,
    unproved: bool = False,
) -> Refusal | None:
    """Raise Suspended if a key in use was refused before; return the refusal if the key is to be tried again.

    Without `now` no key is tried. `unproved`: a changed key may be of another account; nothing is written.
    """
    found = suspensions.current_refusal(database, connection, secrets, unproved=unproved)
    if found and (now is None or found.in_backoff(now)):
        raise Suspended(
            f"{describe_refusal(found)} Next try: {_when(found.again)}.", todo=todo_of_refusal(found)
        )
    return found


def try_again(parts: "Parts", refusal: Refusal, secrets: Secrets) -> None:
    """Ask Beamer once with a suspended key, another list each time; a refusal raises Suspended."""
    roots: Sequence[Stream] = [stream for stream in parts.catalogue.values() if stream.parent is None]
    stream = roots[refusal.refused % len(roots)]
    params = {**stream.params, **params_of(Cursor(), Habits(), 1)}
    try:
        with parts.ledger.taken(stream.name, parts.clock.now()) as at:
            parts.beamer.get(BeamerRequest(stream.path, tuple(params.items())), at)
    except (KeyRefused, Forbidden) as error:
        now, key = parts.clock.now(), secrets["beamer"]
        what = error.what if isinstance(error, KeyRefused) else refusal.what
        suspensions.remember(parts.database, refusal.connection, "beamer", key, what, now)
        what = f"{describe_refusal(refusal)} The key was tried again with one request."
        raise Suspended(what, todo=todo_of_refusal(refusal)) from None
    except Stopped:
        raise
    except ConnectorError as error:
        what = f"{describe_refusal(refusal)} The key could not be tried again: {error.what}"
        raise Suspended(what, todo=todo_of_refusal(refusal)) from None
    suspensions.accept(parts.database, refusal.connection, "beamer", secrets["beamer"], parts.clock.now())


def describe_refusal(refusal: Refusal) -> str:
    """Return the refusal in a sentence."""
    return f"Connection '{refusal.connection}' is suspended since {_when(refusal.since)}: {refusal.what}"


def todo_of_refusal(refusal: Refusal) -> str:
    return WAY_OUT[refusal.api]


def note(
    database: Database,
    connection: str,
    secrets: Secrets,
    error: ConnectorError | None,
    now: datetime,
    *,
    answered: bool = False,
    delivered: bool = False,
) -> None:
    """Store what a run showed of the keys: Beamer `answered`, Segment accepted what was `delivered`."""
    refused: Api | None = None
    if isinstance(error, KeyRefused) and not isinstance(error, Suspended):
        refused = "segment" if isinstance(error, WriteKeyRefused) else "beamer"
    proved: dict[Api, bool] = {"beamer": answered, "segment": delivered}
    for api, taken in proved.items():
        if error and api == refused:
            sure = isinstance(error, NothingAllowed)
            key = secrets[api]
            suspensions.remember(database, connection, api, key, error.what, now, answered=taken, sure=sure)
        elif taken:
            suspensions.accept(database, connection, api, secrets[api], now)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# A sync tries at once what it finds; what has waited longer has been tried in vain, or nobody tries.
STUCK_AFTER = HOUR
# One run may be cut short by a new version or a machine that goes down; of more, nothing may come any more.
CUT_SHORT_IN_VAIN = 2
# What speaks of the keys, and of their addresses.
KEYS = "key"


@dataclass(frozen=True, slots=True)
class Health:
    """A word for a connection; `grade` is how bad it is: ok, warning or error."""

    word: str
    grade: str
    means: str


# The worst first: of several the first one counts.
HEALTH = (
    Health("damaged", "error", "the database contains values that cannot be read; nothing is read or sent"),
    Health(
        "mismatched",
        "error",
        "the keys may belong to another account; nothing is read or sent",
    ),
    Health("suspended", "error", "a key was refused; nothing is read or sent until it changes"),
    Health("stuck", "error", "messages wait for Segment and are not delivered"),
    Health("failing", "error", "the last run ended with an error"),
    Health("closed", "error", "Beamer answers 429; requests are paused for a while"),
    Health("exhausted", "error", "the monthly limit is used up"),
    Health("late", "warning", "no run has succeeded for much longer than usual"),
    Health(
        "unconfirmed", "warning", "the Beamer key or address was changed; the next sync compares the account"
    ),
    Health("partial", "warning", "a stream is not read completely, or Segment refused messages"),
    Health("doubtful", "warning", "counters are untrusted; rows may be later than usual"),
    Health("saving", "ok", "known rows wait until requests are available"),
    Health("never run", "ok", "no sync has run yet"),
    Health("healthy", "ok", "all streams are read, and no message waits for long"),
)
OF_WORD = {health.word: health for health in HEALTH}
_SEVERITY = {health.word: index for index, health in enumerate(HEALTH)}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; a `word` of None is information only."""

    word: str | None
    thing: str
    found: str
    todo: str


def health(status: Status) -> tuple[Health, Problem | None]:
    """The worst word that applies, and why."""
    if status.identity is None and status.damaged is None:
        return OF_WORD["never run"], None
    worst = next((each for each in problems(status) if each.word), None)
    return OF_WORD[(worst and worst.word) or "healthy"], worst


def problems(status: Status) -> list[Problem]:
    """Return all problems, the worst first, then what is only information."""
    if status.damaged:
        return [of_damage(status.damaged)]
    if status.identity is None:
        return []
    found = [each for check in _CHECKS for each in check(status)]
    return sorted(found, key=lambda each: _SEVERITY[each.word] if each.word else len(HEALTH))


def of_damage(error: StateDamaged) -> Problem:
    """Return the problem of an unreadable value."""
    return Problem("damaged", "database", error.what, error.todo)


def _account(status: Status) -> Iterator[Problem]:
    change, name = status.change, status.name
    if change.verdict is Verdict.REFUSE:
        yield Problem("mismatched", KEYS, credentials.describe_change(change, name), todo_of(change))
    elif change.verdict is Verdict.COMPARE:
        yield Problem(
            "unconfirmed",
            KEYS,
            f"Connection '{name}' uses other credentials than in its last run: {change.named}.",
            "The next sync continues if Beamer shows known rows of the account; otherwise it exits with "
            f"code 78. {todo_of(change)}",
        )


def _key(status: Status) -> Iterator[Problem]:
    if status.suspended:
        again = f"The key is tried again from {_when(status.suspended.again)}."
        found = f"{describe_refusal(status.suspended)} {again}"
        yield Problem("suspended", "suspension", found, WAY_OUT[status.suspended.api])
    elif status.untried:
        yield Problem(
            "partial",
            KEYS,
            "The Beamer key was never used, because no request was available: it is unknown whether it "
            "is right.",
            "`beamer-segment check` tries it with a request that is left this month; otherwise the next "
            "sync with an available request does.",
        )


def _outbox(status: Status) -> Iterator[Problem]:
    own = status.identity.destination if status.identity else ""
    for each in status.waiting:
        since = f"the oldest since {_when(each.oldest)}"
        if each.held:
            yield Problem(
                "stuck",
                "outbox",
                f"{each.messages:,} messages wait for a former write key of destination "
                f"'{each.destination}', {since}; the present key may belong to another Segment source.",
                f"If it belongs to the same source, `{CONFIRM}` sends them with it. If not, delete them: "
                "`beamer-segment outbox drop` takes the numbers that `outbox list` shows.",
            )
            continue
        if each.destination != own:
            yield Problem(
                "stuck",
                "outbox",
                f"{each.messages:,} messages wait for destination '{each.destination}', which this "
                f"connection no longer sends to, {since}.",
                f"Set SEGMENT_DESTINATION={each.destination} and its write key to send them, or delete "
                "them: `beamer-segment outbox drop` takes the numbers that `outbox list` shows.",
            )
        elif status.now - each.oldest > STUCK_AFTER:
            yield Problem(
                "stuck",
                "outbox",
                f"The outbox is stuck: {each.messages:,} messages wait for Segment, {since}.",
                "Check the connection to Segment: `beamer-segment check --send-test`. Then run a sync: "
                "it sends the messages and prints Segment's answer.",
            )


def _runs(status: Status) -> Iterator[Problem]:
    if status.suspended:
        return
    ended = next((run for run in status.runs if run.finished_at), None)
    past = status.runs[1:] if status.under_way else status.runs
    cut = list(takewhile(lambda run: run.finished_at is None or run.outcome == "interrupted", past))
    if len(cut) >= CUT_SHORT_IN_VAIN:
        yield Problem(
            "failing",
            "runs",
            f"The last {len(cut)} runs were killed or interrupted, the newest started at "
            f"{_when(cut[0].started_at)}.",
            "Find what stops them: memory limits, deadlines, time-outs around the command. Each run "
            "continues where the run before it stopped.",
        )
    elif ended and ended.outcome == "failed":
        why = ((status.last_run or {}).get("summary") or {}).get("error") if ended is status.runs[0] else None
        which = f"The last run ({_when(cut[0].started_at)}) was killed; the run before it" if cut else ""
        when = _when(ended.finished_at or ended.started_at)
        found = f"{which or 'The last run'} exited with code {ended.exit} at {when}"
        yield Problem(
            "failing",
            "last run",
            f"{found}: {why}" if why else f"{found}.",
            "The next run continues where it stopped. If runs keep failing, see `beamer-segment runs`.",
        )
    elif not status.under_way and status.runs:
        since = status.succeeded or status.runs[-1].started_at
        if status.now - since > status.patience:
            last = f"since {_when(since)}" if status.succeeded else "yet"
            yield Problem(
                "late",
                "runs",
                f"No run has succeeded {last}.",
                "Check whether cron or `beamer-segment schedule` still runs, and see `beamer-segment runs`.",
            )


def _budget(status: Status) -> Iterator[Problem]:
    balance = status.balance
    if balance is None:
        return
    again = _when(balance.again) if balance.again else None
    if balance.closed_until or balance.refused:
        until = balance.closed_until
        yield Problem(
            "closed",
            "account",
            f"Requests of the account are paused until {_when(until)} after repeated 429 answers."
            if until
            else "Beamer's last answer was 429: the next sync tries one request.",
            "Nothing at first: syncs try again automatically. If 429 continues, other tools use the "
            "account's requests: enter their number with `beamer-segment quota set-used`, and compare "
            "BEAMER_PLAN with your contract.",
        )
    if balance.left == 0:
        yield Problem(
            "exhausted",
            "quota",
            f"The monthly limit is used up: no request is left{f', until {again}' if again else ''}.",
            "Wait, or correct the limit (BEAMER_PLAN, BEAMER_MONTHLY_REQUESTS), the day on which the month "
            "begins (BEAMER_PERIOD_DAY), or the requests of others (`beamer-segment quota set-used`).",
        )
    elif balance.level is not None and balance.level < 1 and (lists := status.lists_waiting):
        yield Problem(
            "saving",
            "budget",
            f"{lists:,} lists have new rows; no request is available "
            f"now{f', the next at {again}' if again else ''}.",
            "Nothing: the monthly limit is spread evenly over the month. `beamer-segment quota` shows "
            "the delay on other plans.",
        )


def _start(status: Status) -> Iterator[Problem]:
    start = status.identity.start_date if status.identity else status.now
    if start > status.now:
        yield Problem(
            "partial",
            "start date",
            f"The start date is in the future ({_when(start)}): no row is sent until then.",
            "Check this machine's clock and BEAMER_START_DATE. If the date is more than a day ahead, the "
            "next sync sets it again; `beamer-segment backfill` sends older rows.",
        )


def _streams(status: Status) -> Iterator[Problem]:
    for stream in status.streams:
        if stream.trouble:
            forbidden = stream.trouble_code == Forbidden.trouble_code
            unread = "not read completely" if stream.in_part else "not read"
            yield Problem(
                "partial",
                stream.name,
                f"{stream.name} is {'forbidden' if forbidden else unread}: {stream.trouble.rstrip('.')}; "
                "the other streams continue.",
                "Give the key the permission in Beamer, or remove the stream from BEAMER_STREAMS."
                if forbidden
                else "Nothing at first: the next sync tries again. If it keeps failing, report it.",
            )
        if stream.counters_trusted is False:
            yield Problem(
                "doubtful",
                "counters",
                f"{stream.name}: counters are untrusted; its lists are read without them.",
                "Nothing: rows appeared that the counters had not shown. The counters are trusted again "
                "after they prove right; until then reading the lists takes more requests.",
            )


def _dead_letters(status: Status) -> Iterator[Problem]:
    if dead := status.dead:
        yield Problem(
            "partial",
            "dead letters",
            f"Segment refused {dead:,} messages; they are kept for 30 days.",
            "`beamer-segment outbox list --dead` shows why. Then use `outbox retry` or `outbox drop`.",
        )
    if bad := sum(sum(stream.quarantined.values()) for stream in status.streams):
        reasons = {reason for stream in status.streams for reason in stream.quarantined}
        yield Problem(
            None,
            "quarantine",
            f"{bad:,} invalid rows are in quarantine ({'; '.join(sorted(reasons)[:3])}); they are kept "
            "for 30 days.",
            "Nothing, or report it: the streams continue without these rows.",
        )


def _database(status: Status) -> Iterator[Problem]:
    if where := status.unreadable:
        more = f", and {len(where) - 1:,} more" if len(where) > 1 else ""
        yield Problem(
            "partial",
            "database",
            f"A value in the database cannot be read: {where[0]}{more}.",
            "Nothing: the next sync creates it again. If there are more such values, check the disk.",
        )


def _backfills(status: Status) -> Iterator[Problem]:
    if status.at_work("backfill"):
        return
    for each in status.backfills:
        since = f"{each.wanted.since:%Y-%m-%d}"
        yield Problem(
            None,
            "backfill",
            f"The backfill since {since} is not finished: {each.rows:,} rows read, {each.requests:,} "
            f"requests{f' of about {each.expected:,}' if each.expected else ''}.",
            f"Continue it: `beamer-segment backfill --since {since}` with its other options.",
        )


_CHECKS: tuple[Callable[[Status], Iterator[Problem]], ...] = (
    _account,
    _key,
    _outbox,
    _runs,
    _budget,
    _start,
    _streams,
    _dead_letters,
    _database,
    _backfills,
)

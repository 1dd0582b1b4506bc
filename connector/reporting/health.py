"""The health of a connection in one word, its problems, each with what to do, and its status as JSON."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from connector.clock import plain
from connector.domain.state import Verdict
from connector.errors import Exit, Forbidden, StateDamaged
from connector.reporting.status import HOUR, Status, StreamStatus
from connector.state.backfills import Backfill
from connector.state.connections import CONFIRM, KeyVerdict
from connector.state.suspensions import Refusal
from connector.text import counted

# What ends a suspension, by the API that refused the key.
WAY_OUT = {
    "beamer": "Replace the Beamer key. The same key is tried again automatically; `beamer-segment check` "
    "tries it at once, and ends the suspension if it works.",
    "segment": "Replace the Segment write key. The same key is tried again automatically; "
    "`beamer-segment check --send-test` tries it at once, and ends the suspension if it works.",
}


def describe_refusal(refusal: Refusal) -> str:
    """Return a refusal in a sentence."""
    return f"Connection '{refusal.connection}' is suspended since {utc_text(refusal.since)}: {refusal.what}"


def utc_text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- health and problems ---

# A sync sends messages at once; after this time it failed, or no sync runs.
STUCK_AFTER = HOUR
# A new version or a restart of the machine may interrupt one run; more in a row are a problem.
CUT_SHORT_IN_VAIN = 2
# The `thing` of problems with the keys and their addresses.
KEYS = "key"


@dataclass(frozen=True, slots=True)
class Health:
    """A word for a connection; `grade`: ok, warning or error; `exit`: the exit code of `status --fail`."""

    word: str
    grade: str
    means: str
    exit: Exit = Exit.DONE


# The worst first; the first that applies counts.
HEALTH = (
    Health(
        "damaged",
        "error",
        "the database contains values that cannot be read; nothing is read or sent",
        Exit.CONFIGURATION,
    ),
    Health(
        "mismatched",
        "error",
        "the keys may belong to another account; nothing is read or sent",
        Exit.CONFIGURATION,
    ),
    Health("suspended", "error", "a key was refused; nothing is read or sent until it changes", Exit.REFUSED),
    Health("stuck", "error", "messages wait for Segment and are not delivered", Exit.UNREACHABLE),
    Health("failing", "error", "the last run ended with an error", Exit.UNREACHABLE),
    Health("closed", "error", "Beamer answers 429; requests are paused for a while", Exit.UNREACHABLE),
    Health("exhausted", "error", "the monthly limit is used up", Exit.UNREACHABLE),
    Health(
        "missing",
        "warning",
        "Segment does not have all messages that it confirmed",
        Exit.UNREACHABLE,
    ),
    Health("late", "warning", "no run has succeeded for much longer than usual", Exit.UNREACHABLE),
    Health(
        "unconfirmed",
        "warning",
        "the Beamer key or address was changed; the next sync compares the account",
        Exit.CONFIGURATION,
    ),
    Health(
        "partial", "warning", "a stream is not read completely, or Segment refused messages", Exit.UNREACHABLE
    ),
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
    """Return the worst word that applies, and why."""
    if status.identity is None and status.damaged is None:
        return OF_WORD["never run"], None
    worst = next((problem for problem in problems(status) if problem.word), None)
    return OF_WORD[(worst and worst.word) or "healthy"], worst


def worst(statuses: Iterable[Status]) -> Health:
    """Return the worst of the connections' words."""
    words = [health(status)[0] for status in statuses]
    return min(words, key=HEALTH.index, default=OF_WORD["healthy"])


def problems(status: Status) -> list[Problem]:
    """Return all problems, the worst first, then what is only information."""
    if status.damaged:
        return [of_damage(status.damaged)]
    if status.identity is None:
        return []
    unsorted = [problem for check in _CHECKS for problem in check(status)]
    return sorted(unsorted, key=lambda problem: _SEVERITY.get(problem.word or "", len(HEALTH)))


def of_damage(error: StateDamaged) -> Problem:
    """Return the problem of an unreadable value."""
    return Problem("damaged", "database", error.what, error.todo)


def _account(status: Status) -> Iterator[Problem]:
    change, name = status.change, status.name
    if change.verdict is KeyVerdict.REFUSE:
        yield Problem("mismatched", KEYS, change.describe(name), change.todo)
    elif change.verdict is KeyVerdict.COMPARE:
        yield Problem(
            "unconfirmed",
            KEYS,
            f"Connection '{name}' uses other credentials than in its last run: {change.named}.",
            "The next sync continues if Beamer shows known rows of the account; otherwise it exits with "
            f"code 78. {change.todo}",
        )


def _key(status: Status) -> Iterator[Problem]:
    if status.suspended:
        again = f"The key is tried again from {utc_text(status.suspended.again)}."
        text = f"{describe_refusal(status.suspended)} {again}"
        yield Problem("suspended", "suspension", text, WAY_OUT[status.suspended.api])
    elif status.untried:
        yield Problem(
            "partial",
            KEYS,
            "The Beamer key is new and was not used yet: it is unknown whether it is right.",
            "`beamer-segment check` tries it with a request that is left this month; otherwise the next "
            "sync with an available request does.",
        )


def _outbox(status: Status) -> Iterator[Problem]:
    current = status.identity.destination if status.identity else ""
    drop = "`beamer-segment outbox drop` takes the numbers that `outbox list` shows."
    for waiting in status.waiting:
        since, messages = f"waiting since {utc_text(waiting.oldest)}", counted(waiting.messages, "message")
        if waiting.held:
            text = (
                f"{messages} for a former write key of destination '{waiting.destination}', {since}; the "
                "present key may belong to another Segment source."
            )
            todo = (
                f"If it belongs to the same source, `{CONFIRM}` sends them with it. If not, delete them: "
                f"{drop}"
            )
        elif waiting.destination != current:
            text = (
                f"{messages} for destination '{waiting.destination}', which this connection no longer sends "
                f"to, {since}."
            )
            todo = (
                f"Set SEGMENT_DESTINATION={waiting.destination} and its write key to send them, or delete "
                f"them: {drop}"
            )
        elif status.now - waiting.oldest > STUCK_AFTER:
            text = f"The outbox is stuck: {messages} for Segment, {since}."
            todo = (
                "Check the connection to Segment: `beamer-segment check --send-test`. Then run a sync: "
                "it sends the messages and prints Segment's answer."
            )
        else:
            continue
        yield Problem("stuck", "outbox", text, todo)


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
            f"The last {counted(len(cut), 'run')} were killed or interrupted, the newest started at "
            f"{utc_text(cut[0].started_at)}.",
            "Find what stops them: memory limits, deadlines, time-outs around the command. Each run "
            "continues where the run before it stopped.",
        )
    elif ended and ended.outcome == "failed":
        why = ((status.last_run or {}).get("summary") or {}).get("error") if ended is status.runs[0] else None
        which = f"The last run ({utc_text(cut[0].started_at)}) was killed; the run before it" if cut else ""
        when = utc_text(ended.finished_at or ended.started_at)
        text = f"{which or 'The last run'} exited with code {ended.exit} at {when}"
        yield Problem(
            "failing",
            "last run",
            f"{text}: {why}" if why else f"{text}.",
            "The next run continues where it stopped. If runs keep failing: `beamer-segment runs` shows "
            "since when, and `beamer-segment check --send-test` tries Beamer and Segment.",
        )
    elif not status.under_way and status.runs:
        since = status.succeeded or status.runs[-1].started_at
        if status.now - since > status.patience:
            last = f"since {utc_text(since)}" if status.succeeded else "yet"
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
    again = utc_text(balance.again) if balance.again else None
    if balance.closed_until or balance.refused:
        until = balance.closed_until
        yield Problem(
            "closed",
            "account",
            f"Requests of the account are paused until {utc_text(until)} after repeated 429 answers."
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
    elif balance.level is not None and (lists := status.lists_waiting):
        none = f"no request is available now{f', the next at {again}' if again else ''}"
        reserved = "the available requests are kept for rows that wait longer, or for more rows in one list"
        yield Problem(
            "saving",
            "budget",
            f"New rows wait in {counted(lists, 'list')}; {none if balance.level < 1 else reserved}.",
            "Nothing: the monthly limit is spread evenly over the month. `beamer-segment quota` shows "
            "the delay on other plans.",
        )


def _start(status: Status) -> Iterator[Problem]:
    start = status.identity.start_date if status.identity else status.now
    if start > status.now:
        yield Problem(
            "partial",
            "start date",
            f"The start date is in the future ({utc_text(start)}): no row is sent until then.",
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
            f"Segment refused {counted(dead, 'message')}; refused messages are kept for 30 days.",
            "`beamer-segment outbox list --dead` shows why. Then use `outbox retry` or `outbox drop`.",
        )
    if bad := sum(sum(stream.quarantined.values()) for stream in status.streams):
        reasons = {reason for stream in status.streams for reason in stream.quarantined}
        yield Problem(
            None,
            "quarantine",
            f"In quarantine: {counted(bad, 'invalid row')} ({'; '.join(sorted(reasons)[:3])}), kept "
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
    for backfill in status.backfills:
        since = f"{backfill.wanted.since:%Y-%m-%d}"
        expected = f" of about {backfill.expected:,}" if backfill.expected else ""
        yield Problem(
            None,
            "backfill",
            f"The backfill since {since} is not finished: {counted(backfill.rows, 'row')} read, "
            f"{counted(backfill.requests, 'request')}{expected}.",
            f"Continue it: `beamer-segment backfill --since {since}` with its other options.",
        )


def _proof(status: Status) -> Iterator[Problem]:
    for text, todo in status.proof.problems:
        yield Problem("missing", "proof", text, todo)
    if status.proof.unproven:
        yield Problem(
            None,
            "proof",
            f"What Segment counts is not known: {status.proof.unproven}",
            "Nothing at first: it is asked again every hour. `beamer-segment check` tries the token.",
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
    _proof,
)


# --- the status as JSON ---

# Why rows are excluded, and which setting sends them.
WHY_EXCLUDED = {
    Verdict.NO_USER.label: "no user id; BEAMER_ANONYMOUS=send sends them",
    Verdict.TEAM.label: "the team's own comments; BEAMER_TEAM_COMMENTS=true sends them",
    Verdict.STREAM_OFF.label: "their stream is not listed in BEAMER_STREAMS",
    Verdict.MOVED.label: "sent before, under another post or request",
    Verdict.FORGOTTEN.label: "the person was forgotten (forget --user-id)",
}


def excluded(status: Status) -> dict[str, int]:
    """Return how many rows are excluded, by reason."""
    totals = {why: sum(stream.counts.get(why, 0) for stream in status.streams) for why in WHY_EXCLUDED}
    return {why: total for why, total in totals.items() if total}


def as_dict(status: Status) -> dict[str, Any]:
    """Return the status as JSON; what is unknown is null."""
    balance, identity, newest = status.balance, status.identity, status.newest
    word, why = health(status)
    return {
        "connection": status.name,
        **verdict(word, why),
        "problems": [asdict(problem) for problem in problems(status)],
        "account": identity and identity.account,
        "destination": identity and identity.destination,
        "start_date": plain(identity and identity.start_date),
        "limit": status.limit_text,
        "requests_used": balance and balance.used,
        "requests_left": balance and balance.left,
        "requests_available": balance and balance.level,
        "requests_per_day": balance and balance.per_day,
        "requests_usable": status.usable,
        "requests_even": None if status.even is None else status.even * (status.usable or 0),
        "requests_since": plain(balance and balance.since),
        "requests_until": plain(balance and balance.until),
        "requests_again_at": plain(balance and balance.again),
        "closed_until": plain(balance and balance.closed_until),
        "suspended": _refusal_dict(status.suspended),
        "lists_never_read": sum(status.unread.lists.values()) if status.unread else None,
        "read_by": plain(status.read_by),
        "excluded": excluded(status),
        "outbox": dict(status.outbox or {}),
        "waiting": [_row(asdict(waiting)) for waiting in status.waiting],
        "segmented_posts_hidden": bool(identity and identity.ignore_filters is False),
        "newest_stream": newest and newest.name,
        "newest": plain(newest and newest.newest),
        "newest_delay_seconds": newest and newest.delay,
        "streams": [_stream_dict(stream) for stream in status.streams],
        "last_run": _row(status.last_run) if status.last_run else None,
        "last_success": plain(status.succeeded),
        "seconds_between_syncs": status.every.total_seconds() if status.every else None,
        "runs": [_row(asdict(run)) for run in status.runs],
        "at_work": [_row(asdict(holder)) for holder in status.holders],
        "hints": {stream: _row(asdict(hints)) for stream, hints in status.hints.items()},
        "backfills": [backfill_dict(backfill) for backfill in status.backfills],
    }


def verdict(word: Health, why: Problem | None) -> dict[str, Any]:
    """Return a connection's health and its worst problem."""
    return {"health": word.word, "grade": word.grade, "why": why and why.found, "todo": why and why.todo}


def _stream_dict(stream: StreamStatus) -> dict[str, Any]:
    return {
        "stream": stream.name,
        "listed": stream.listed,
        "checked_at": plain(stream.checked_at),
        "complete_through": plain(stream.complete_through),
        "newest": plain(stream.newest),
        "newest_delay_seconds": stream.delay,
        "counts": dict(stream.counts),
        "lists_waiting": stream.lists_waiting,
        "lists_never_read": stream.lists_unread,
        "still_discovering": stream.discovering,
        "counters_trusted": stream.counters_trusted,
        "quarantined": dict(stream.quarantined),
        "trouble": stream.trouble,
        "trouble_at": plain(stream.trouble_at),
    }


def _refusal_dict(refusal: Refusal | None) -> dict[str, Any] | None:
    if refusal is None:
        return None
    return {"api": refusal.api, "since": plain(refusal.since), "what": refusal.what}


def backfill_dict(backfill: Backfill) -> dict[str, Any]:
    """Return a backfill as JSON."""
    return {
        "id": backfill.id,
        "since": plain(backfill.wanted.since),
        "until": plain(backfill.wanted.until),
        "streams": list(backfill.wanted.streams),
        "resend": backfill.wanted.resend,
        "integrations": backfill.integrations,
        "began_at": plain(backfill.began_at),
        "finished_at": plain(backfill.finished_at),
        "requests": backfill.requests,
        "requests_expected": backfill.expected,
        "rows": backfill.rows,
        "events": backfill.events,
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}

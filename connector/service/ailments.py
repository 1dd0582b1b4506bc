"""A connection's health in one word, and everything that is not as it should be: what, and what to do.

`status` shows what was found, `check` says what to do about it; both are made from the same list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from connector.errors import Forbidden
from connector.service.pace import HOUR
from connector.service.status import Status
from connector.service.suspension import WAY_OUT, said

# A sync tries at once what it finds; what has waited longer has been tried in vain, or nobody tries.
STUCK_AFTER = HOUR
# One run may be cut short by a new version or a machine that goes down; of more, nothing may come any more.
CUT_SHORT_IN_VAIN = 2


@dataclass(frozen=True, slots=True)
class Health:
    """A word for a connection; `grade` is how bad it is: ok, warning or error."""

    word: str
    grade: str
    means: str


# The worst first: of several the first one counts.
HEALTH = (
    Health("suspended", "error", "a key was refused; nothing is read or sent until it changes"),
    Health("stuck", "error", "messages wait for Segment and do not get through"),
    Health("failing", "error", "the last run ended with an error"),
    Health("closed", "error", "Beamer answers 429; nothing is asked for a while"),
    Health("exhausted", "error", "the month's quota is spent"),
    Health("late", "warning", "no run has ended well for much longer than usual"),
    Health("partial", "warning", "part of it is not read, or was refused by Segment"),
    Health("doubtful", "warning", "counters are often wrong; rows may come later than usual"),
    Health("saving", "ok", "rows are known to wait, until the budget has come in"),
    Health("never run", "ok", "no sync has begun yet"),
    Health("healthy", "ok", "all is read, and nothing waits for long"),
)
OF_WORD = {health.word: health for health in HEALTH}
_PLACE = {health.word: place for place, health in enumerate(HEALTH)}


@dataclass(frozen=True, slots=True)
class Ailment:
    """One thing that is not as it should be; a `word` of None is worth a line and no worry."""

    word: str | None
    thing: str
    found: str
    todo: str


def health(status: Status) -> tuple[Health, Ailment | None]:
    """The worst word that applies, and why."""
    if status.identity is None:
        return OF_WORD["never run"], None
    worst = next((each for each in ailments(status) if each.word), None)
    return OF_WORD[(worst and worst.word) or "healthy"], worst


def ailments(status: Status) -> list[Ailment]:
    """All that is wrong, the worst first, then what is only worth knowing."""
    if status.identity is None:
        return []
    found = [each for look in _LOOKS for each in look(status)]
    return sorted(found, key=lambda each: _PLACE[each.word] if each.word else len(HEALTH))


def _key(status: Status) -> Iterator[Ailment]:
    if status.suspended:
        yield Ailment("suspended", "suspension", said(status.suspended), WAY_OUT[status.suspended.door])


def _outbox(status: Status) -> Iterator[Ailment]:
    own = status.identity.destination if status.identity else ""
    for each in status.waiting:
        since = f"the oldest since {_when(each.oldest)}"
        if each.destination != own:
            yield Ailment(
                "stuck",
                "outbox",
                f"{each.messages:,} messages wait for destination '{each.destination}', which this "
                f"connection no longer sends to, {since}.",
                f"Set SEGMENT_DESTINATION={each.destination} to send them, or drop them: "
                "`beamer-segment outbox drop` takes the numbers that `outbox list` shows.",
            )
        elif status.now - each.oldest > STUCK_AFTER:
            yield Ailment(
                "stuck",
                "outbox",
                f"The outbox is stuck: {each.messages:,} messages wait for Segment, {since}.",
                "See whether Segment is reached: `beamer-segment check --send-test`. Then run a sync: "
                "it sends them, and says what Segment answers.",
            )


def _runs(status: Status) -> Iterator[Ailment]:
    if status.suspended:
        return
    ended = next((run for run in status.runs if run.finished_at), None)
    past = status.runs[1:] if status.under_way else status.runs
    cut = list(takewhile(lambda run: run.finished_at is None or run.outcome == "interrupted", past))
    if len(cut) >= CUT_SHORT_IN_VAIN:
        yield Ailment(
            "failing",
            "runs",
            f"The last {len(cut)} runs were killed or interrupted, the newest begun at "
            f"{_when(cut[0].started_at)}.",
            "Look for what ends them: memory limits, deadlines, time-outs around the command. Each one "
            "goes on where the one before it stopped.",
        )
    elif ended and ended.outcome == "failed":
        why = ((status.last_run or {}).get("summary") or {}).get("error") if ended is status.runs[0] else None
        found = f"The last run ended with {ended.exit} at {_when(ended.finished_at or ended.started_at)}"
        yield Ailment(
            "failing",
            "last run",
            f"{found}: {why}" if why else f"{found}.",
            "The next run goes on where it stopped. If it stays so, see `beamer-segment runs`.",
        )
    elif not status.under_way and status.runs:
        since = status.succeeded or status.runs[-1].started_at
        if status.now - since > status.patience:
            last = f"since {_when(since)}" if status.succeeded else "yet"
            yield Ailment(
                "late",
                "runs",
                f"No run has ended well {last}.",
                "See whether cron or `beamer-segment schedule` still runs, and `beamer-segment runs`.",
            )


def _budget(status: Status) -> Iterator[Ailment]:
    balance = status.balance
    if balance is None:
        return
    again = _when(balance.again) if balance.again else None
    if balance.closed_until or balance.refused:
        until = balance.closed_until
        yield Ailment(
            "closed",
            "account",
            f"The account is closed by 429 until {_when(until)}: nothing is asked before that."
            if until
            else "429 was Beamer's last answer: the next sync tries with one request.",
            "Nothing at first: it is tried again by itself. If it stays so, others spend the account's "
            "quota: `beamer-segment quota set-used` tells how much; compare BEAMER_PLAN with your contract.",
        )
    if balance.left == 0:
        yield Ailment(
            "exhausted",
            "quota",
            f"The quota is spent: no request is left of the month{f', until {again}' if again else ''}.",
            "Wait, or correct the limit (BEAMER_PLAN, BEAMER_MONTHLY_REQUESTS), the day on which the month "
            "begins (BEAMER_PERIOD_DAY), or what others used (`beamer-segment quota set-used`).",
        )
    elif balance.level is not None and balance.level < 1 and (lists := status.lists_waiting):
        yield Ailment(
            "saving",
            "budget",
            f"{lists:,} lists hold something new; the budget at hand is spent"
            f"{f', more comes at {again}' if again else ''}.",
            "Nothing: the month's quota comes in evenly. `beamer-segment quota` says what another plan "
            "would change.",
        )


def _streams(status: Status) -> Iterator[Ailment]:
    for stream in status.streams:
        if stream.trouble:
            forbidden = Forbidden.tells(stream.trouble)
            yield Ailment(
                "partial",
                stream.name,
                f"{stream.name} is {'forbidden' if forbidden else 'not read'}: {stream.trouble.rstrip('.')}; "
                "the others go on.",
                "Give the key the permission in Beamer, or take the stream off BEAMER_STREAMS."
                if forbidden
                else "Nothing at first: the next sync tries again. If it stays so, report it.",
            )
        if stream.counters_trusted is False:
            yield Ailment(
                "doubtful",
                "counters",
                f"{stream.name}: counters not trusted: lists are read without them",
                "Nothing: rows came that the counters had not announced. They are trusted again once they "
                "are right; until then the lists cost requests of their own.",
            )


def _letters(status: Status) -> Iterator[Ailment]:
    if dead := status.dead:
        yield Ailment(
            "partial",
            "dead letters",
            f"{dead:,} messages were refused by Segment; they are kept for 30 days.",
            "`beamer-segment outbox list --dead` says why; then `outbox retry` or `outbox drop` them.",
        )
    if bad := sum(sum(stream.quarantined.values()) for stream in status.streams):
        reasons = {reason for stream in status.streams for reason in stream.quarantined}
        yield Ailment(
            None,
            "quarantine",
            f"{bad:,} rows could not be used ({'; '.join(sorted(reasons)[:3])}); they are kept for 30 days.",
            "Nothing, or report it: the streams go on without them.",
        )


def _backfills(status: Status) -> Iterator[Ailment]:
    if status.at_work("backfill"):
        return
    for each in status.backfills:
        since = f"{each.wanted.since:%Y-%m-%d}"
        yield Ailment(
            None,
            "backfill",
            f"The backfill since {since} is not finished: {each.rows:,} rows read, {each.requests:,} "
            f"requests{f' of some {each.expected:,}' if each.expected else ''}.",
            f"It goes on where it stood: `beamer-segment backfill --since {since}` with its other options.",
        )


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


_LOOKS: tuple[Callable[[Status], Iterator[Ailment]], ...] = (
    _key,
    _outbox,
    _runs,
    _budget,
    _streams,
    _letters,
    _backfills,
)

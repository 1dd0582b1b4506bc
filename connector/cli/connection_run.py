"""One run of one connection, as `sync`, `audit`, `schedule` and `backfill` start it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from connector import compose
from connector.cli.command import Session
from connector.cli.output import Reporter, error_dict, exit_of
from connector.cli.verify import proved
from connector.config import Connection
from connector.errors import ConnectorError, Exit
from connector.reporting import checks
from connector.reporting.health import WHY_EXCLUDED
from connector.reporting.proof import is_same_source, unproven
from connector.reporting.rendering import excluded_text, summary_dict, summary_lines
from connector.state import connections, deliveries, outbox, progress, suspensions
from connector.state.connections import CONFIRM, WRITE_KEY, KeyChange, KeyVerdict, OtherAccount
from connector.state.engine import Database
from connector.sync.context import RunContext
from connector.sync.planning.audit import AuditEverything
from connector.sync.planning.start import HintedPlanner
from connector.sync.run import Outcome, Run
from connector.text import counted

log = structlog.get_logger()

# An interrupted audit continues with the lists that were not read within this time.
READ_LATELY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """The options of a run; `skip_exit` replaces 75, and 0 if no request could be sent.

    `command` is the kind of the runs: `audit` reads lists that were not completely read within a day, `hints`
    reads the lists that webhooks named.
    """

    streams: tuple[str, ...] = ()
    max_requests: int | None = None
    deliver: bool = True
    strict: bool = False
    skip_exit: int | None = None
    command: str = "sync"


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run's context. `first`: no sync has settled the start date yet.

    `suspended` names the API whose refused key is to be tried again; `unproved`: the Beamer key has changed,
    and its account must still be compared.
    """

    context: RunContext
    first: bool
    suspended: str | None
    unproved: bool
    notices: tuple[str, ...] = ()

    @property
    def only_delivers(self) -> bool:
        """Return whether nothing is read: waiting messages first test whether Segment accepts its key."""
        if self.suspended != "segment":
            return False
        waiting = outbox.waiting(self.context.database, self.context.identity.name)
        destination = self.context.identity.destination
        return any(message.destination == destination and not message.held for message in waiting)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs connections for one command, and prints how each run ended."""

    session: Session
    database: Database
    reporter: Reporter

    def attempt(
        self,
        connection: Connection,
        options: SyncOptions,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Run a connection, and return the result, also of an unexpected error."""
        name = connection.name
        try:
            return self._sync(connection, options, on_progress)
        except Exception as error:
            self.reporter.summary([], name, error)
            return {"connection": name, "exit": exit_of(error), "idle": False, "error": error_dict(error)}

    @contextmanager
    def opened(
        self, connection: Connection, streams: Sequence[str] = (), *, tries: bool
    ) -> Iterator[OpenRun]:
        """Put a run together; refuse keys that may be another account's, or that were refused by an API.

        `tries`: a refused key may be tried again when it is due.
        """
        database, clock = self.database, self.session.clock
        catalogue = compose.catalogue(connection, streams)
        keys, change = compose.keys_in_use(connection), compose.refuse_other_account(database, connection)
        unproved, now = change.verdict is KeyVerdict.COMPARE, clock.now()
        suspended = checks.refuse_suspended(
            database, connection.name, keys, now if tries else None, unproved=unproved
        )
        notices = self._compare_source(connection, change)
        _, settled = compose.stored_or_new_identity(database, connection, now)
        with compose.working(self.session.settings, connection, database, clock, catalogue) as context:
            if suspended and suspended.api == "beamer":
                checks.try_again(context, suspended, keys)
            yield OpenRun(context, not settled, suspended.api if suspended else None, unproved, notices)

    def _compare_source(self, connection: Connection, change: KeyChange) -> tuple[str, ...]:
        """Find out whether a new write key has the same Segment source; return what a person should know.

        Raises OtherAccount if it has another one.
        """
        name, database = connection.name, self.database
        identity = connections.known(database, name)
        if identity is None or WRITE_KEY not in change.changed or change.moved or change.blank:
            return ()
        former = connections.current_write_key(database, name, identity.destination) or ""
        _, write_key = compose.secrets(connection)
        try:
            with compose.public_api(connection, self.session.clock) as api:
                same = is_same_source(database, api, name, write_key, former) if api else None
        except OtherAccount:
            raise
        except ConnectorError as error:
            log.warning("not_proven", connection=name, error=error.what)
            same = None
        if same:
            key = connections.key_digest(write_key)
            outbox.follow_key(database, name, identity.destination, former, key)
            return (f"{name}: the new Segment write key belongs to the same source",)
        return (
            f"{name}: the Segment write key was changed, and whether it belongs to the same source is not "
            "known. If not, give the new source another SEGMENT_DESTINATION: otherwise some events are in "
            "one source and some in the other",
        )

    def note(self, connection: Connection, outcome: Outcome) -> None:
        """Store whether the APIs accepted the keys: with a refused key the connection is suspended."""
        checks.note(
            self.database,
            connection.name,
            compose.keys_in_use(connection),
            outcome.error,
            self.session.clock.now(),
            answered=outcome.report.pages > 0,
            delivered=outcome.report.sent > 0,
        )

    def summarize(
        self, context: RunContext, connection: Connection, outcome: Outcome, *lines: str
    ) -> dict[str, Any]:
        """Print a run's summary with these lines at its end, and return it."""
        name, limit = connection.name, connection.limit_text
        balance = context.ledger.balance(self.session.clock.now())
        error = outcome.error and compose.of_connection(outcome.error, connection)
        self.reporter.summary([*summary_lines(name, outcome, balance, limit), *lines], name, error)
        return summary_dict(name, outcome, balance, limit)

    def _sync(
        self, connection: Connection, options: SyncOptions, on_progress: Callable[[str], None]
    ) -> dict[str, Any]:
        with self.opened(connection, options.streams, tries=options.max_requests != 0) as opened:
            context = opened.context
            if options.command == "audit":
                since = self.session.clock.now() - READ_LATELY
                context = replace(context, planner=AuditEverything(since))
            elif options.command == "hints" and context.ledger.limits.usable is None:
                # Under a limit the planner compares all probes; without one, the next sync requests the rest.
                context = replace(context, planner=HintedPlanner())
            run = Run(
                context,
                command=options.command,
                deliver=options.deliver,
                most_requests=0 if opened.only_delivers else options.max_requests,
                on_progress=lambda report: on_progress(
                    _page_read(report.requests_spent, report.new.total(), report.sent)
                ),
            )
            try:
                outcome = run.go()
            finally:
                unbind_contextvars("requests")
        return self._reported(connection, options, opened, outcome)

    def _verify(self, connection: Connection) -> None:
        """Compare with Segment's counts, at most once an hour; a failure never fails the run."""
        now = self.session.clock.now()
        if connection.public_api_token is None or self.session.clock.stopped:
            return
        if not deliveries.claim(self.database, connection.name, now):
            return
        try:
            proved(self.database, connection, self.session.clock)
        except ConnectorError as error:
            log.warning("not_proven", connection=connection.name, error=error.what)
            deliveries.save(self.database, connection.name, unproven(error), now)

    def _reported(
        self, connection: Connection, options: SyncOptions, opened: OpenRun, outcome: Outcome
    ) -> dict[str, Any]:
        """Store the consequences of a run, print its summary, and return it."""
        name, report, context = connection.name, outcome.report, opened.context
        identity = connections.known(self.database, name) or context.identity
        self.note(connection, outcome)
        if options.deliver:
            self._verify(connection)
        still_open = identity.provisional and context.identity.first_days
        notices = [*opened.notices]
        if not still_open:
            notices += _start_date_lines(connection, identity.start_date, first=opened.first)
        untried = opened.unproved or not suspensions.tried(self.database, name)
        if report.stopped and not report.requests_spent and options.max_requests != 0 and untried:
            notices.append(f"{name}: {checks.UNTRIED}")
        self.reporter.summary(notices)
        progress.note_newest(self.database, name, sorted(report.new), self.session.clock.now())
        held = outbox.held(self.database, name, context.identity.destination, context.write_key)
        lines = [f"  {_for_former_key(held)}"] if held else []
        return {
            **self.summarize(context, connection, outcome, *lines),
            "exit": _exit_code(outcome, options),
            "idle": report.requests_spent == 0 and bool(report.stopped),
            "start_date": identity.start_date.isoformat(),
            "waiting_for_former_key": held,
            "notices": notices,
        }


def _for_former_key(messages: int) -> str:
    """Return how many messages wait for a former write key, and what to do."""
    return (
        f"for a former write key: {counted(messages, 'message')} – `{CONFIRM}` sends them with the new key, "
        "if it belongs to the same source; `beamer-segment outbox drop` deletes them"
    )


def _page_read(requests: int, rows: int, sent: int) -> str:
    """Add the requests to later log events, and return the run's progress."""
    bind_contextvars(requests=requests)
    return f"{counted(requests, 'request')}, {counted(rows, 'new row')}, {sent:,} sent"


def _exit_code(outcome: Outcome, options: SyncOptions) -> int:
    """Return the run's own code, or 65 if `--strict` requires it."""
    if outcome.exit is Exit.DONE and options.strict and outcome.report.quarantined:
        return int(Exit.QUARANTINED)
    return int(outcome.exit)


def _start_date_lines(connection: Connection, stored: datetime, *, first: bool) -> list[str]:
    """Return from which date rows are sent: at the first sync, and if the setting names an earlier one."""
    date, setting = f"{stored:%Y-%m-%d %H:%M:%S} UTC", connection.start_date
    if first:
        return [f"{connection.name}: sending rows dated {date} or later; this start date is stored"]
    if setting and setting < stored:
        return [
            f"{connection.name}: BEAMER_START_DATE is earlier than {date}, the start date that the first "
            f"sync stored; to send older rows: beamer-segment backfill --since {setting:%Y-%m-%d}"
        ]
    return []


# --- what is printed once ---------------------------------------------------------------------------------


def new_notices(database: Database, connection: str, now: datetime) -> list[str]:
    """Return a sentence for each problem not mentioned before, and store that it is mentioned now."""
    notices = _notices(database, connection)
    fresh = suspensions.unmentioned(database, connection, notices.keys())
    if fresh:
        suspensions.mention(database, connection, fresh, now)
    return [sentence for topic, sentence in notices.items() if topic in fresh]


def _notices(database: Database, connection: str) -> Mapping[str, str]:
    """Return what a person should read once, although the run succeeded: sentences by topic."""
    notices: dict[str, str] = {}
    if bad := progress.quarantined(database, connection):
        counts = ", ".join(f"{stream} {sum(reasons.values()):,}" for stream, reasons in bad.items())
        notices["quarantine"] = f"rows in quarantine: {counts}; `beamer-segment status` shows them"
    sums = progress.sums(database, connection).values()
    for why in WHY_EXCLUDED:
        if count := sum(tally.get(why, 0) for tally in sums):
            notices[f"excluded {why}"] = excluded_text(why, count)
    if dead := outbox.sizes(database, connection).get(outbox.DEAD, 0):
        notices["dead letters"] = (
            f"refused by Segment: {counted(dead, 'message')} – see `beamer-segment outbox list --dead`"
        )
    for name, state in progress.load_readonly(database, connection, lists=False).streams.items():
        if state.distrusted:
            notices[f"distrust {name}"] = f"{name}: counters are untrusted; its lists are read without them"
        if state.problem:
            notices[f"trouble {name}"] = f"not read: {name}: {state.problem}"
    return notices

"""What a scheduler needs around a sync: quiet output, a ping, metrics in a file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from connector import compose
from connector.cli.context import Session
from connector.cli.output import echo_err
from connector.config import Connection
from connector.errors import ConfigurationError, Exit
from connector.reporting.summary import WHY_HELD
from connector.state import outbox, progress, queries, suspensions
from connector.state.engine import Database
from connector.terminal import buffered_output

log = structlog.get_logger()

# Another run is at work and reports how it ended; a signal leaves no time.
NO_PING = (Exit.BUSY, Exit.HUNG_UP, Exit.INTERRUPTED, Exit.TERMINATED)
PING_TIMEOUT = 5.0
PING_DEADLINE = 10.0
PING_MAX_BYTES = 64 * 1024


@dataclass(slots=True)
class RunHooks:
    """`exit` is the exit code of the command, once it is known."""

    quiet: bool = False
    ping_url: str | None = None
    metrics_file: Path | None = None
    exit: int = 0
    _has_notices: bool = field(default=False, init=False)

    @contextmanager
    def around(self, session: Session) -> Iterator[None]:
        """Wrap a command: with `quiet` print nothing unless there is a reason to, and ping at the end."""
        with buffered_output(self.quiet) as release:
            try:
                yield
            except Exception:
                self._ping(session, failed=True)
                raise
            if self.exit not in NO_PING:
                self._ping(session, failed=self.exit != Exit.DONE)
            if self.exit or self._has_notices:
                release()

    def after_runs(self, session: Session, database: Database, chosen: Sequence[Connection]) -> None:
        """Write the figures, and print what is new for a person, while the database is open."""
        now = session.clock.now()
        if self.metrics_file:
            from connector.daemon.metrics import of_database, write_file

            limits = {connection.name: compose.limits(connection) for connection in chosen}
            write_file(self.metrics_file, of_database(database, limits, now))
        for connection in chosen if self.quiet else ():
            for notice in new_notices(database, connection.name, now):
                echo_err(f"{connection.name}: {notice}")
                self._has_notices = True

    def _ping(self, session: Session, *, failed: bool) -> None:
        if url := self.ping_url or session.settings.ping_url:
            ping(url, failed=failed)


def new_notices(database: Database, connection: str, now: datetime) -> list[str]:
    """Return a sentence for each problem not mentioned before, and note that it is mentioned now."""
    notices = _notices(database, connection)
    fresh = suspensions.unmentioned(database, connection, notices.keys())
    if fresh:
        suspensions.mention(database, connection, fresh, now)
    return [sentence for topic, sentence in notices.items() if topic in fresh]


def _notices(database: Database, connection: str) -> Mapping[str, str]:
    """What a person should read once, though the run itself ended well: sentences by topic."""
    notices: dict[str, str] = {}
    if bad := queries.quarantined(database, connection):
        counts = ", ".join(f"{stream} {sum(reasons.values()):,}" for stream, reasons in bad.items())
        notices["quarantine"] = f"rows in quarantine: {counts}; `beamer-segment status` shows them"
    sums = queries.sums(database, connection).values()
    for why, reason in WHY_HELD.items():
        if count := sum(tally.get(why, 0) for tally in sums):
            notices[f"held {why}"] = f"excluded: {count:,} rows – {reason}"
    if dead := queries.outbox_sizes(database, connection).get(outbox.DEAD, 0):
        notices["dead letters"] = (
            f"refused by Segment: {dead:,} messages – see `beamer-segment outbox list --dead`"
        )
    for name, state in progress.load_readonly(database, connection, lists=False).streams.items():
        if state.distrusted:
            notices[f"distrust {name}"] = f"{name}: counters are untrusted; its lists are read without them"
        if state.problem:
            notices[f"trouble {name}"] = f"not read: {name}: {state.problem}"
    return notices


def ping(url: str, *, failed: bool, seconds: float = PING_DEADLINE) -> None:
    """Call the URL of a dead man's switch, with /fail after a failed run; a failed call is only a warning."""
    try:
        problem = _ping_problem(f"{url}/fail" if failed else url, seconds)
    except Exception as error:
        # Whatever it is: the run has ended.
        problem = type(error).__name__
    if problem:
        log.warning("ping_failed", error=problem)


def _ping_problem(url: str, seconds: float) -> str | None:
    """Return what went wrong with a ping, without its URL, which is a secret but for host and port."""
    # Imported late: most runs ping nobody.
    from connector.http.exchange import Failed, exchange, open_client

    try:
        with open_client(url, timeout=PING_TIMEOUT) as client:
            reply = exchange(client, "GET", url, seconds=seconds, most=PING_MAX_BYTES)
    except Failed as error:
        return error.describe("the ping's host")
    except ConfigurationError as error:
        return error.what
    return None if 200 <= reply.status < 300 else f"answered {reply.status}"

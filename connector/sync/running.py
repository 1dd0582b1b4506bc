"""What frames every run: the lease of its kind of work, a number, a summary."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from connector.errors import ConnectorError, Exit, Stopped
from connector.state import connections, leases, runs
from connector.state.leases import SYNC, Fence
from connector.state.owner import this_process
from connector.sync.parts import Parts
from connector.sync.report import Report

# What is done in a run: under a fence, as run number so and so, begun at that moment; gives what ended it.
Do = Callable[[Fence, int, datetime], ConnectorError | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its report, and the error that ended it, if one did."""

    run: int
    report: Report
    error: ConnectorError | None

    @property
    def exit(self) -> Exit:
        if self.error:
            return self.error.exit
        if self.report.interrupted:
            return Exit.INTERRUPTED
        return Exit.UNREACHABLE if self.incomplete else Exit.DONE

    @property
    def incomplete(self) -> bool:
        return self.report.incomplete

    @property
    def label(self) -> str:
        """How it ended, in one word."""
        if self.report.interrupted or isinstance(self.error, Stopped):
            return "interrupted"
        if self.error:
            return "failed"
        return "stopped" if self.report.stopped else "incomplete" if self.incomplete else "done"


def under_lease(parts: Parts, command: str, report: Report, do: Do, *, work: str = SYNC) -> Outcome:
    """Take the lease, do it, write down how it ended, and give the lease back; raises Busy at once."""
    started, name = parts.clock.now(), parts.identity.name
    with leases.holding(parts.store, name, this_process(), parts.clock, work) as fence:
        connections.check_names(parts.store, parts.identity)
        number = runs.begin(parts.store, name, command, started)
        structlog.contextvars.bind_contextvars(run=number, connection=name)
        # What goes past every `except` is a signal that ends the process where it stands.
        outcome = Outcome(number, report, Stopped("The run was ended by a signal."))
        try:
            outcome = Outcome(number, report, do(fence, number, started))
        except Exception as error:
            outcome = Outcome(number, report, _known(error))
            raise
        finally:
            _write_down(parts, outcome)
            structlog.contextvars.unbind_contextvars("run", "connection")
    return outcome


def _known(error: Exception) -> ConnectorError:
    """An error as the summary tells it: the text of one that nobody foresaw may hold a row or a key."""
    return (
        error if isinstance(error, ConnectorError) else ConnectorError(f"unexpected {type(error).__name__}")
    )


def _write_down(parts: Parts, outcome: Outcome) -> None:
    now = parts.clock.now()
    error = outcome.error.what if outcome.error else None
    summary = {**outcome.report.as_dict(), "error": error}
    runs.finish(parts.store, outcome.run, now, outcome.label, int(outcome.exit), summary)

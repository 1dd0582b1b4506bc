"""What the parts of one run share: the settings, what is known so far, and what is still to ask."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from connector.beamer.catalogue import Stream
from connector.clock import Clock
from connector.state.connections import Identity
from connector.state.intake import Intake
from connector.state.ledger import Ledger
from connector.state.progress import Progress
from connector.sync.parts import Parts
from connector.sync.planning.agenda import Agenda
from connector.sync.planning.notebook import Notebook
from connector.sync.planning.picture import Picture
from connector.sync.policy import Policy
from connector.sync.report import Report

log = structlog.get_logger()


@dataclass(slots=True)
class Work:
    """The state of one run.

    `ignore_filters`: whether the key may, None while that is unknown. `ahead`: how far Beamer's clock is
    ahead of ours. `careful`: one request at a time. `per_day` and
    `at_hand`: the budget's fill, and what of it may be spent, None without a limit.
    """

    catalogue: Mapping[str, Stream]
    identity: Identity
    policy: Policy
    progress: Progress
    ledger: Ledger
    intake: Intake
    clock: Clock
    report: Report
    first_page: int | None
    ignore_filters: bool | None
    careful: bool = True
    per_day: float | None = None
    at_hand: float | None = None
    ahead: timedelta = timedelta(0)
    agenda: Agenda = field(default_factory=Agenda)
    notebook: Notebook = field(default_factory=Notebook)
    troubled: set[str] = field(default_factory=set)

    @classmethod
    def begun(cls, parts: Parts, progress: Progress, intake: Intake, report: Report) -> "Work":
        """A run's work at its beginning; what is told about the API outweighs what was seen of it."""
        identity, policy = parts.identity, parts.policy
        told = policy.ignore_filters
        return cls(
            catalogue=parts.catalogue,
            identity=identity,
            policy=policy,
            progress=progress,
            ledger=parts.ledger,
            intake=intake,
            clock=parts.clock,
            report=report,
            first_page=identity.first_page if policy.first_page is None else policy.first_page,
            ignore_filters=identity.ignore_filters if told is None else told,
        )

    @property
    def beamer_now(self) -> datetime:
        """The time by Beamer's clock, as its last answer showed it."""
        return self.clock.now() + self.ahead

    @property
    def picture(self) -> Picture:
        """What a plan is made from, as it stands now."""
        return Picture(
            self.catalogue, self.policy, self.progress, self.first_page, self.per_day, self.at_hand
        )

    def stop(self, why: str, until: datetime | None = None) -> None:
        """Send nothing more in this run."""
        # Each request under way says so for itself.
        if why != self.report.stopped:
            log.info("stopping", why=why)
        self.report.stopped, self.report.next_try = why, until

    def interrupt(self, what: str = "") -> None:
        """A signal asks for the end before everything is done."""
        self.report.interrupted = True
        self.stop(f"asked to stop{what}")

    def filters_settled(self, allowed: bool) -> None:
        """An answer has shown whether the key may ignore filters."""
        untried, self.ignore_filters = self.ignore_filters is None, allowed
        if self.policy.ignore_filters is None and (untried or self.identity.ignore_filters is not allowed):
            now = self.clock.now()
            self.intake.note((), now, ignore_filters=allowed)
            self.identity = replace(self.identity, ignore_filters=allowed, filters_at=now)

    def note_trouble(self, stream: str, what: str) -> None:
        """Say in the summary, and in the stream's own state, what went wrong."""
        log.warning("stream_trouble", stream=stream, error=what)
        self.troubled.add(stream)
        said = f"{stream}: {what}"
        if said not in self.report.troubles:
            self.report.troubles.append(said)
        state = self.progress.streams[stream]
        self.progress.streams[stream] = replace(state, trouble=what, trouble_at=self.clock.now())

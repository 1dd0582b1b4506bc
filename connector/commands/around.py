"""What a scheduler wants of a run besides the run: silence, a sign of life, figures in a file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from connector.commands.session import Session
from connector.config import Connection
from connector.errors import Exit
from connector.output import complain, kept_back
from connector.service import news
from connector.state.engine import Store

# Another run is at work and will say how it ended; a signal leaves no time.
SILENT = (Exit.BUSY, Exit.HUNG_UP, Exit.INTERRUPTED, Exit.TERMINATED)


@dataclass(slots=True)
class Around:
    """`code` is the exit code of the run, once it is known."""

    quiet: bool = False
    ping_url: str | None = None
    metrics_file: Path | None = None
    code: int = 0
    _speaks: bool = field(default=False, init=False)

    @contextmanager
    def run(self, here: Session) -> Iterator[None]:
        """Around everything that is said; an error is said, and pinged as a failure, whatever it is."""
        with kept_back(self.quiet) as speak:
            try:
                yield
            except Exception:
                self._ping(here, failed=True)
                raise
            if self.code not in SILENT:
                self._ping(here, failed=self.code != Exit.DONE)
            if self.code or self._speaks:
                speak()

    def look(self, here: Session, store: Store, chosen: Sequence[Connection]) -> None:
        """After the runs, while the store is open: figures into the file, and what is new for a person."""
        if self.metrics_file:
            from connector.commands.figures import gather
            from connector.service.metrics import write_file

            write_file(self.metrics_file, gather(here, store, chosen))
        if self.quiet:
            for connection in chosen:
                self._tell(here, store, connection)

    def _tell(self, here: Session, store: Store, connection: Connection) -> None:
        for line in news.told(store, connection.name, here.clock.now()):
            complain(f"{connection.name}: {line}")
            self._speaks = True

    def _ping(self, here: Session, *, failed: bool) -> None:
        if url := self.ping_url or here.settings.ping_url:
            from connector.service.ping import ping

            ping(url, failed=failed)


def given_url(text: str | None) -> str | None:
    """A URL from the command line, by the rules of the setting; raises ValueError."""
    from connector.config import values

    return None if text is None else values.url(text)

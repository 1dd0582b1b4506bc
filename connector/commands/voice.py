"""What the runs of one command say to people: of several at once, each keeps its lines together."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from connector.errors import ConnectorError
from connector.output import explain, explain_unexpected, say, together

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Voice:
    """`text`: summaries are wanted, not JSON; `many`: an error has to name its connection."""

    text: bool
    many: bool = False

    def say(self, lines: Sequence[str], name: str = "", error: ConnectorError | None = None) -> None:
        """A summary, and the error that the run of a connection ended with."""
        with together:
            for line in lines if self.text else ():
                say(line)
            if error:
                explain(error, self._of(name))

    def explain(self, error: ConnectorError, name: str) -> None:
        with together:
            explain(error, self._of(name))

    def explain_unexpected(self, error: Exception, name: str) -> None:
        with together:
            explain_unexpected(error, self._of(name))

    def _of(self, name: str) -> str:
        return name if self.many else ""


class Logging(Voice):
    """Of a daemon's runs only what went wrong is said, as log lines; how each ended, its scheduler says."""

    def say(self, _lines: Sequence[str], name: str = "", error: ConnectorError | None = None) -> None:
        if error:
            self.explain(error, name)

    def explain(self, error: ConnectorError, name: str) -> None:
        log.warning("run_failed", connection=name, code=error.code, error=error.what)

    def explain_unexpected(self, error: Exception, name: str) -> None:
        # Not the error's own text, which may hold a row or a key.
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
        log.error("run_crashed", connection=name, error=type(error).__name__, where=where)

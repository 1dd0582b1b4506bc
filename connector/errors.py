"""Errors, grouped by what to do next.

Each says what happened, what it means for the data, and what to do, and has the exit code of a command that
it ends. None contains a key, a URL with a key, or a row's text.
"""

from datetime import datetime
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; most are those of BSD's sysexits.h, which schedulers' users know."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    QUARANTINED = 65
    UNREACHABLE = 69
    BUSY = 75
    REFUSED = 77
    CONFIGURATION = 78
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class ConnectorError(Exception):
    """An error that a person can act on."""

    code = "BS-001"
    exit = Exit.UNEXPECTED
    default_means = default_todo = ""

    def __init__(self, what: str, *, means: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.means = means or self.default_means
        self.todo = todo or self.default_todo

    def as_dict(self) -> dict[str, str]:
        """Return the error as JSON; `todo` only if there is something to do."""
        return {"code": self.code, "what": self.what, **({"todo": self.todo} if self.todo else {})}

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.means, self.todo) if part)


# --- stop: the command line, the configuration or a key has to change first ---


class Misused(ConnectorError):
    """A wrong command line."""

    code = "BS-002"
    exit = Exit.USAGE
    default_means = "Nothing was read or sent."
    default_todo = "Run the command with --help to see what it accepts."


class NotConfirmed(ConnectorError):
    """A question was answered with no, or could not be asked."""

    code = "BS-003"
    default_means = "The action was not carried out."
    default_todo = "Pass --yes to run the command without questions."


class ConfigurationError(ConnectorError):
    """Settings that cannot work."""

    code = "BS-078"
    exit = Exit.CONFIGURATION
    default_means = "Nothing was read or sent."


class DatabaseNewer(ConfigurationError):
    """The database was upgraded by a later version of the connector."""

    code = "BS-079"
    default_todo = "Install the version that upgraded the database, or a later one."


class StateDamaged(ConfigurationError):
    """A value in the database cannot be read and cannot be restored automatically."""

    code = "BS-082"
    default_means = "This run read and sent nothing; the stored data is unchanged."


class KeyRefused(ConnectorError):
    """Beamer (401, or 403 on everything) or Segment does not accept the key."""

    code = "BS-401"
    exit = Exit.REFUSED


class NothingAllowed(KeyRefused):
    """The key may read none of the requested streams (403)."""


class WriteKeyRefused(KeyRefused):
    """Segment, or a gateway before it, does not accept the write key."""


# --- stop: somebody else holds what this run needs ---


class Busy(ConnectorError):
    """Another run holds the connection's lease, or has taken it over."""

    code = "BS-075"
    exit = Exit.BUSY


# --- stop for now: try again later ---


class Unreachable(ConnectorError):
    """Beamer, Segment or the database could not be reached, after retries."""

    code = "BS-069"
    exit = Exit.UNREACHABLE
    default_means = "Nothing is lost: the next run reads the remaining rows and sends the waiting messages."
    default_todo = "The next run continues where this one stopped."


class DatabaseUnreachable(Unreachable):
    """The database could not be opened or did not answer."""

    code = "BS-070"
    default_todo = (
        "Check that the database runs and that this machine reaches it, or correct DATABASE_URL. "
        "The next run continues where this one stopped."
    )


class DatabaseRefused(DatabaseUnreachable):
    """The database cannot work with this DATABASE_URL, however often it is tried."""

    code = "BS-071"
    exit = Exit.CONFIGURATION
    default_todo = "Correct DATABASE_URL, then run the command again."


# --- skip: the rest goes on ---


class Forbidden(ConnectorError):
    """The key may not read this stream (403)."""

    code = "BS-403"
    # What is stored as a stream's trouble, and its code.
    trouble_text, trouble_code = "the key may not read it (403)", "forbidden"


class Gone(ConnectorError):
    """The parent was deleted in the meantime (404); not a failure."""

    code = "BS-404"


class BadAnswer(ConnectorError):
    """An answer of 2xx that differs from the API reference, or a page that repeats."""

    code = "BS-200"


class Declined(BadAnswer):
    """A 4xx that is not about the key or the rate, such as 400 to a page after the last one."""


# --- stop nothing: the work goes on ---


class OutputFailed(ConnectorError):
    """Standard output or a file could not be written, for example on a full disk."""

    code = "BS-074"
    default_means = "The output is lost; the work itself continued."
    default_todo = "Free disk space, or write the output to another place."


# --- retry ---


class Transient(ConnectorError):
    """Worth another attempt: a time-out, a reset, a 5xx, a truncated body.

    `after`: seconds to wait, if the server named them. `again`: False if another attempt in the same run is
    useless, as after an answer without end. `slow`: it took a whole time-out.
    """

    code = "BS-500"
    exit = Exit.UNREACHABLE

    def __init__(
        self, what: str, *, after: float | None = None, again: bool = True, slow: bool = False
    ) -> None:
        super().__init__(what)
        self.after = after
        self.again = again
        self.slow = slow


class NotSent(Transient):
    """No connection could be opened, so the request never left this machine: it is not charged."""


class TooMany(Transient):
    """Too many requests (429): another tool uses the account, too, or the monthly limit is used up."""

    code = "BS-429"


# --- asked to stop ---


class Stopped(ConnectorError):
    """A signal came before the request was sent."""

    code = "BS-130"
    exit = Exit.INTERRUPTED


# --- no budget ---


class NoBudget(ConnectorError):
    """No request is available now; `until` is when one will be, if known."""

    code = "BS-030"
    exit = Exit.DONE

    def __init__(self, what: str, *, until: datetime | None = None) -> None:
        super().__init__(what)
        self.until = until

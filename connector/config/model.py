"""Everything that was configured."""

from typing import Annotated, Literal

from pydantic import ByteSize, Field

from connector.config import values
from connector.config.connection import Connection
from connector.config.setting import Configured, Lower, Number, Setting, Upper
from connector.errors import ConfigurationError


class Settings(Configured):
    """Everything that was configured."""

    # May hold a password.
    database_url: Annotated[
        str | None,
        Setting(
            "DATABASE_URL",
            "postgresql://… or sqlite:////absolute/path",
            "Where the state is kept; by default a SQLite file under $XDG_STATE_HOME.",
            secret=True,
        ),
    ] = Field(default=None, repr=False)
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Upper,
        Setting("LOG_LEVEL", "debug, info, warning, error or critical", "How much is logged."),
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Lower,
        Setting("LOG_FORMAT", "auto, console or json", "auto: console on a terminal, else JSON."),
    ] = "auto"
    max_waiting_rows: Annotated[
        int,
        Number,
        Field(ge=1),
        Setting(
            "CONNECTOR_MAX_WAITING_ROWS",
            "a number above 0",
            "Reading pauses when so many events wait for Segment.",
        ),
    ] = 100_000
    max_waiting_bytes: Annotated[
        ByteSize,
        Number,
        Field(ge=1),
        Setting(
            "CONNECTOR_MAX_WAITING_BYTES",
            "a size such as 200MB",
            "Reading pauses when waiting events take so much room.",
        ),
    ] = ByteSize(200 * 1000 * 1000)
    connections: tuple[Connection, ...] = Field(default_factory=lambda: (Connection(),))
    ignored: tuple[str, ...] = ()

    def connection(self, name: str | None = None) -> Connection:
        """The connection of that name; without a name, the only one."""
        names = [connection.name for connection in self.connections]
        if name is None and len(names) == 1:
            return self.connections[0]
        if name is None:
            raise ConfigurationError(
                f"There are {len(names)} connections: {', '.join(names)}.",
                todo="Choose one with --connection NAME, or --all.",
            )
        for connection in self.connections:
            if connection.name == name:
                return connection
        raise ConfigurationError(
            f"{values.unknown(name, names, 'connection')}.",
            todo=f"The connections are: {', '.join(names)}.",
        )

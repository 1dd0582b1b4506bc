"""Everything that was configured."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, model_validator

from connector.config import values
from connector.config.connection import Connection
from connector.config.setting import Configured, Duration, Lower, Number, Setting, Upper
from connector.errors import ConfigurationError


class Settings(Configured):
    """Everything that was configured."""

    # May hold a password.
    database_url: Annotated[
        str | None,
        Setting(
            "DATABASE_URL",
            "postgresql://… or sqlite:////absolute/path",
            "The database; by default a SQLite file under $XDG_STATE_HOME.",
            secret=True,
        ),
    ] = Field(default=None, repr=False)
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Upper,
        Setting("LOG_LEVEL", "debug, info, warning, error or critical", "The lowest level that is logged."),
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
            "Reading pauses when this many events wait for Segment.",
        ),
    ] = 100_000
    max_waiting_bytes: Annotated[
        ByteSize,
        Number,
        Field(ge=1),
        Setting(
            "CONNECTOR_MAX_WAITING_BYTES",
            "a size such as 200MB",
            "Reading pauses when waiting events take this much space.",
        ),
    ] = ByteSize(200 * 1000 * 1000)
    workers: Annotated[
        int,
        Number,
        Field(ge=1, le=64),
        Setting("CONNECTOR_WORKERS", "a number from 1 to 64", "How many connections run at once."),
    ] = 8
    interval: Annotated[
        Duration,
        AfterValidator(values.a_minute_or_more),
        Setting(
            "CONNECTOR_INTERVAL",
            "a duration of at least a minute: 90s, 5m, PT5M or seconds",
            "`schedule`: the shortest time between two syncs; without a monthly limit, the usual time.",
        ),
    ] = timedelta(minutes=5)
    max_interval: Annotated[
        Duration,
        AfterValidator(values.a_minute_or_more),
        Setting(
            "CONNECTOR_MAX_INTERVAL",
            "a duration of at least a minute: 30m, 1h, PT1H or seconds",
            "`schedule`: the longest time between two syncs, even if few requests are available.",
        ),
    ] = timedelta(hours=1)
    bind: Annotated[
        str,
        BeforeValidator(values.address),
        Setting(
            "CONNECTOR_BIND",
            "HOST:PORT, or none",
            "Where `schedule` serves status, health and metrics; they name connections, but no person.",
        ),
    ] = "127.0.0.1:8080"
    # Whoever knows it can keep a dead man's switch quiet.
    ping_url: Annotated[
        str | None,
        BeforeValidator(values.secret_url),
        Setting(
            "CONNECTOR_PING_URL",
            "an https:// address; http:// on this machine only",
            "A dead man's switch: `sync` and `audit` call it after a success, and with /fail after a "
            "failure.",
            secret=True,
        ),
    ] = Field(default=None, repr=False)
    connections: tuple[Connection, ...] = Field(default_factory=lambda: (Connection(),))
    # Variables with keys or names that no connection of the configuration file uses.
    unused: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _intervals_agree(self) -> "Settings":
        if self.max_interval < self.interval:
            raise ValueError("CONNECTOR_MAX_INTERVAL is shorter than CONNECTOR_INTERVAL.")
        return self

    def connection(self, name: str | None = None, or_else: str = "") -> Connection:
        """The connection of that name; without a name, the only one.

        `or_else` is what the command can do instead of choosing one, for the error.
        """
        names = [connection.name for connection in self.connections]
        if name is None and len(names) == 1:
            return self.connections[0]
        if name is None:
            raise ConfigurationError(
                f"There are {len(names)} connections: {', '.join(names)}.",
                todo=f"Choose one with --connection NAME{or_else}.",
            )
        for connection in self.connections:
            if connection.name == name:
                return connection
        raise ConfigurationError(
            f"{values.unknown(name, names, 'connection')}.",
            todo=f"The connections are: {', '.join(names)}.",
        )

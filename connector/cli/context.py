"""What every command works with: settings, clock, database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

from typer import BadParameter

from connector.clock import SystemClock
from connector.compose import open_existing, open_ready
from connector.config import Connection, Settings, load, surroundings
from connector.config.sharding import WHOLE, parsed
from connector.logs import Redaction, quiet_libraries, set_up
from connector.state import schema
from connector.state.engine import Database

NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(slots=True)
class Session:
    """The surroundings of one command."""

    settings: Settings
    clock: SystemClock
    # Loads the settings again: keys in files may have been replaced.
    reload: Callable[[], Settings] | None = None

    def chosen(self, name: str | None, every: bool = False, shard: str | None = None) -> list[Connection]:
        """Return the connection of that name, or every one, or those of a shard such as `0/5`."""
        if name and (every or shard):
            raise BadParameter("--connection cannot be combined with --all or --shard.")
        if shard is None and not every:
            return [self.settings.connection(name, ", or --all")]
        try:
            share = parsed(shard) if shard else WHOLE
        except ValueError as error:
            raise BadParameter(str(error)) from None
        return [each for each in self.settings.connections if share.holds(each.name)]

    def named(self, name: str | None) -> list[Connection]:
        """Return the connection of that name; without a name, all."""
        return self.chosen(name, every=name is None)

    def known(self, name: str | None) -> str | None:
        """Return the name if there is such a connection; None stands for all."""
        return name and self.settings.connection(name).name

    @contextmanager
    def database(self, new: bool = False, workers: int = 1) -> Iterator[Database]:
        """Open the database, made where there is none, for so many threads."""
        database = open_ready(self.settings, self.clock, new=new, workers=workers)
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def existing(self) -> Iterator[Database | None]:
        """Open the database to look at it; None where there is none."""
        database = open_existing(self.settings)
        try:
            if database:
                schema.ready(database, self.clock.now())
            yield database
        finally:
            if database:
                database.close()


def open_session(
    config: Path | None,
    env_file: Path | None,
    *,
    secrets: bool = True,
    logs: bool = True,
    overrides: Mapping[str, object] = NOTHING,
) -> Session:
    """Load the settings, and set up logging unless the command only looks.

    `secrets`: keys are required. `overrides` are options that replace variables of the environment.
    """
    options = {name: str(value) for name, value in overrides.items() if value is not None}
    redaction = Redaction(())

    def loaded() -> Settings:
        environment = {**surroundings(), **options}
        settings = load(environment, env_file=env_file, config_file=config, secrets_required=secrets)
        redaction.learn(_secrets(settings))
        return settings

    settings = loaded()
    if logs:
        set_up(settings.log_level, settings.log_format, redaction)
    else:
        quiet_libraries()
    return Session(settings, SystemClock(), loaded)


def open_readonly(config: Path | None, env_file: Path | None) -> Session:
    """Open a session for a command that only looks: it requires no keys, and nothing is logged."""
    return open_session(config, env_file, secrets=False, logs=False)


def _secrets(settings: Settings) -> Iterator[str]:
    yield settings.ping_url or ""
    for connection in settings.connections:
        for key in (connection.api_key, connection.write_key):
            yield key.get_secret_value() if key else ""
    # Not parsed: a bad URL is for the database to judge. What stands between ':' and '@' is the password.
    credentials, at, _ = (settings.database_url or "").rpartition("@")
    password = credentials.partition("://")[2].partition(":")[2] if at else ""
    # A password of three letters would be taken out of half of all words.
    yield from (each for each in (password, unquote(password)) if len(each) > 3)

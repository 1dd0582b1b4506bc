"""One command's surroundings: settings, clock, store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from connector.clock import SystemClock
from connector.compose import open_existing, open_ready
from connector.config import Connection, Settings, load, surroundings
from connector.logs import Redaction, set_up
from connector.state import schema
from connector.state.engine import Store


@dataclass(slots=True)
class Session:
    """What every command works with."""

    settings: Settings
    clock: SystemClock

    def chosen(self, name: str | None, every: bool = False) -> list[Connection]:
        return list(self.settings.connections) if every else [self.settings.connection(name)]

    def named(self, name: str | None) -> str | None:
        """The name, if there is such a connection; None stands for all."""
        return name and self.settings.connection(name).name

    @contextmanager
    def store(self, new: bool = False) -> Iterator[Store]:
        """The store, made where there is none."""
        store = open_ready(self.settings, self.clock, new=new)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def existing(self) -> Iterator[Store | None]:
        """The store for those who only look: where there is none, none is made."""
        found = open_existing(self.settings)
        try:
            if found:
                schema.ready(found, self.clock.now())
            yield found
        finally:
            if found:
                found.close()


def begin(config: Path | None, env_file: Path | None, *, secrets: bool) -> Session:
    """Load the settings and set up logging."""
    settings = load(surroundings(), env_file=env_file, config_file=config, secrets_required=secrets)
    set_up(settings.log_level, settings.log_format, Redaction(_secrets(settings)))
    return Session(settings, SystemClock())


def _secrets(settings: Settings) -> Iterator[str]:
    for each in settings.connections:
        for key in (each.api_key, each.write_key):
            yield key.get_secret_value() if key else ""
    # Not parsed: a bad URL is for the store to judge. What stands between ':' and '@' is the password.
    credentials, at, _ = (settings.database_url or "").rpartition("@")
    password = credentials.partition("://")[2].partition(":")[2] if at else ""
    # A password of three letters would be taken out of half of all words.
    yield from (each for each in (password, unquote(password)) if len(each) > 3)

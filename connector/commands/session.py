"""One command's surroundings: settings, clock, store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connector.clock import SystemClock
from connector.compose import open_ready
from connector.config import Connection, Settings, load, surroundings
from connector.logs import Redaction, set_up
from connector.state.engine import Store


@dataclass(slots=True)
class Session:
    """What every command works with."""

    settings: Settings
    clock: SystemClock

    def chosen(self, name: str | None, every: bool = False) -> list[Connection]:
        return list(self.settings.connections) if every else [self.settings.connection(name)]

    @contextmanager
    def store(self, new: bool = False) -> Iterator[Store]:
        store = open_ready(self.settings, self.clock, new=new)
        try:
            yield store
        finally:
            store.close()


def begin(config: Path | None, env_file: Path | None, *, secrets: bool) -> Session:
    """Load the settings and set up logging."""
    settings = load(surroundings(), env_file=env_file, config_file=config, secrets_required=secrets)
    hidden = [key for each in settings.connections for key in (each.api_key, each.write_key) if key]
    set_up(settings.log_level, settings.log_format, Redaction(key.get_secret_value() for key in hidden))
    return Session(settings, SystemClock())

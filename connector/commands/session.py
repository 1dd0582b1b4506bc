"""One command's surroundings: settings, clock, store."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

from connector.clock import SystemClock
from connector.compose import open_existing, open_ready
from connector.config import Connection, Settings, load, surroundings
from connector.logs import Redaction, quiet_libraries, set_up
from connector.service.sharding import WHOLE, Shard
from connector.state import schema
from connector.state.engine import Store

NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(slots=True)
class Session:
    """What every command works with."""

    settings: Settings
    clock: SystemClock
    # What is configured by now: keys in files may have been replaced.
    reload: Callable[[], Settings] | None = None

    def chosen(self, name: str | None, every: bool = False, shard: Shard | None = None) -> list[Connection]:
        """The connection of that name, or every one, or those of a shard."""
        if shard is None and not every:
            return [self.settings.connection(name, ", or --all")]
        return [each for each in self.settings.connections if (shard or WHOLE).holds(each.name)]

    def named(self, name: str | None) -> str | None:
        """The name, if there is such a connection; None stands for all."""
        return name and self.settings.connection(name).name

    @contextmanager
    def store(self, new: bool = False, workers: int = 1) -> Iterator[Store]:
        """The store, made where there is none; so many threads will use it at once."""
        store = open_ready(self.settings, self.clock, new=new, workers=workers)
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


def begin(
    config: Path | None,
    env_file: Path | None,
    *,
    secrets: bool,
    logs: bool = True,
    given: Mapping[str, object] = NOTHING,
) -> Session:
    """Load the settings and set up logging, if anything `logs`.

    `given` are options that stand for a variable, and come first.
    """
    options = {name: str(value) for name, value in given.items() if value is not None}

    def loaded() -> Settings:
        environ = {**surroundings(), **options}
        found = load(environ, env_file=env_file, config_file=config, secrets_required=secrets)
        redaction.learn(_secrets(found))
        return found

    redaction = Redaction(())
    settings = loaded()
    if logs:
        set_up(settings.log_level, settings.log_format, redaction)
    else:
        quiet_libraries()
    return Session(settings, SystemClock(), loaded)


def _secrets(settings: Settings) -> Iterator[str]:
    yield settings.ping_url or ""
    for each in settings.connections:
        for key in (each.api_key, each.write_key):
            yield key.get_secret_value() if key else ""
    # Not parsed: a bad URL is for the store to judge. What stands between ':' and '@' is the password.
    credentials, at, _ = (settings.database_url or "").rpartition("@")
    password = credentials.partition("://")[2].partition(":")[2] if at else ""
    # A password of three letters would be taken out of half of all words.
    yield from (each for each in (password, unquote(password)) if len(each) > 3)

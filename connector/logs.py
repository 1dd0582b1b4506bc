"""Logging: to standard error, on a terminal for people and elsewhere as JSON, with secrets taken out."""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TextIO, cast

from connector.config import surroundings
from connector.terminal import write
from connector.text import one_line

HIDDEN = "[redacted]"


class Redaction:
    """A processor of structlog that replaces known secrets in each text of an event."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Add secrets that were loaded later."""
        self._secrets = sorted({*self._secrets, *filter(None, secrets)}, key=len, reverse=True)

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: _changed(value, self.text) for key, value in event.items()}

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with each text in it changed."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {key: _changed(element, change) for key, element in value.items()}
        case list() | tuple():
            return [_changed(element, change) for element in value]
        case _:
            return value


def _for_terminals(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters; each text becomes one line, to which the console adds colours."""
    return {one_line(key): _changed(value, one_line) for key, value in event.items()}


class _Stderr:
    """The current standard error, which a progress line on a terminal replaces for a while."""

    def write(self, text: str) -> None:
        write(sys.stderr, text)

    def flush(self) -> None:
        """Do nothing: each write is flushed."""


def quiet_libraries() -> None:
    """Prevent the libraries' loggers from logging each request."""
    for name in ("httpx", "httpcore", "segment", "urllib3", "alembic", "sqlalchemy", "apscheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)


def set_up(level: str, form: str, redaction: Redaction) -> None:
    """Configure structlog for the whole program."""
    # Imported here: commands that only read the database log nothing, and it takes a tenth of their time.
    import structlog

    quiet_libraries()
    terminal = sys.stderr.isatty()
    # https://no-color.org: any text in it, and nothing else.
    colours = terminal and not surroundings().get("NO_COLOR")
    as_json = form == "json" or (form == "auto" and not terminal)
    console = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    # JSON escapes by itself.
    renderers: list[Any] = [structlog.processors.JSONRenderer()] if as_json else [_for_terminals, console]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redaction,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )

"""Logging: to standard error, on a terminal for people and elsewhere as JSON, with secrets taken out."""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TextIO, cast

from connector.config import surroundings
from connector.terminal import one_line, write

HIDDEN = "[redacted]"


class Redaction:
    """Takes known secrets out of whatever is about to be written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Keys that have come since."""
        self._secrets = sorted({*self._secrets, *filter(None, secrets)}, key=len, reverse=True)

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: _changed(value, self.text) for key, value in event.items()}

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """A value with each text in it changed."""
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
    """Before the console's colours come: each text in one line, without what a terminal would obey."""
    return {one_line(key): _changed(value, one_line) for key, value in event.items()}


class _Stderr:
    """Standard error as it is at the moment: a progress line on a terminal takes its place for a while."""

    def write(self, text: str) -> None:
        write(sys.stderr, text)

    def flush(self) -> None:
        """What was written is out already."""


def quiet_libraries() -> None:
    """Keep the libraries' own loggers from telling of each request."""
    for name in ("httpx", "httpcore", "segment", "urllib3", "alembic", "sqlalchemy", "apscheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)


def set_up(level: str, form: str, redaction: Redaction) -> None:
    """Configure what all rooms log with."""
    # Here, since who only looks at the database logs nothing, and it takes a tenth of the time.
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

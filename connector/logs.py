"""Logging: to standard error, on a terminal for people and elsewhere as JSON, with secrets taken out."""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

HIDDEN = "[redacted]"


class Redaction:
    """Takes known secrets out of whatever is about to be written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: self.text(value) if isinstance(value, str) else value for key, value in event.items()}

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def set_up(level: str, form: str, redaction: Redaction) -> None:
    """Configure structlog and the libraries' loggers, which print requests when let."""
    terminal = sys.stderr.isatty()
    as_json = form == "json" or (form == "auto" and not terminal)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redaction,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    for name in ("httpx", "httpcore", "segment", "urllib3", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)

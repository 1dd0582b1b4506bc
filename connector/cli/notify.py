"""Calls after a run: a dead man's switch, and the webhook that receives changes of health.

A failed call is only a warning: the run has ended.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from connector.cli.status import status_of
from connector.clock import Clock
from connector.config import Connection
from connector.errors import ConfigurationError
from connector.reporting.health import Health, Problem, health
from connector.state import alerts
from connector.state.alerts import Alert
from connector.state.engine import Database
from connector.text import counted, one_line

log = structlog.get_logger()

TIMEOUT = 5.0
DEADLINE = 10.0
MAX_BYTES = 64 * 1024
# Lines of one message; further connections are only counted.
MOST_LINES = 20
MOST_CHARACTERS = 1_000
# The word that is sent for all words of the grade "ok".
WELL = "healthy"


def ping(url: str, *, failed: bool, seconds: float = DEADLINE) -> None:
    """Call the URL of a dead man's switch, with /fail after a failed run."""
    if problem := _problem(lambda: _call(f"{url}/fail" if failed else url, "the ping's host", seconds)):
        log.warning("ping_failed", error=problem)


def alert(
    url: str, database: Database, chosen: Sequence[Connection], clock: Clock, *, seconds: float = DEADLINE
) -> None:
    """Post the connections whose health has changed, in one message; each at most once an hour."""
    claimed: list[tuple[str, Alert, Alert]] = []
    problem = _problem(lambda: _alert(url, database, chosen, clock, seconds, claimed))
    if problem:
        log.warning("alert_failed", error=problem)
        for name, new, before in claimed:
            _problem(lambda: alerts.give_back(database, name, new, before))  # noqa: B023 - called at once


def _problem(call: Callable[[], str | None]) -> str | None:
    """Return what went wrong in a call, whatever it is."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__


def _alert(
    url: str,
    database: Database,
    chosen: Sequence[Connection],
    clock: Clock,
    seconds: float,
    claimed: list[tuple[str, Alert, Alert]],
) -> str | None:
    lines = []
    for connection in chosen:
        word, why = health(status_of(database, connection, clock.now()))
        new = Alert(WELL if word.grade == "ok" else word.word, clock.now())
        if before := alerts.claim(database, connection.name, new, WELL):
            claimed.append((connection.name, new, before))
            lines.append(_line(connection.name, word, why, before.word))
    if not lines:
        return None
    return _call(url, "the webhook's host", seconds, json={"text": "\n".join(_shown(lines))})


def _line(name: str, word: Health, why: Problem | None, before: str) -> str:
    """Return a change in a sentence, escaped as Slack requires: it may quote an API's answer."""
    text = f"beamer-segment: connection '{name}' is {word.word}, it was {before}."
    if why and word.grade != "ok":
        text += f" {why.found} {why.todo}"
    text = one_line(text)[:MOST_CHARACTERS]
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shown(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MOST_LINES]
    if (more := len(lines) - MOST_LINES) > 0:
        yield f"and {counted(more, 'more connection')}; `beamer-segment status` shows them"


def _call(url: str, host: str, seconds: float, **body: Any) -> str | None:
    """Return what went wrong with a call, without its URL: only host and port are not secret."""
    # Imported late: most runs call nothing.
    from connector.http.bounds import Failed
    from connector.http.exchange import exchange, open_client

    try:
        with open_client(url, timeout=TIMEOUT) as client:
            method = "POST" if body else "GET"
            reply = exchange(client, method, url, seconds=seconds, most=MAX_BYTES, **body)
    except Failed as error:
        return error.describe(host)
    except ConfigurationError as error:
        return error.what
    return None if 200 <= reply.status < 300 else f"answered {reply.status}"

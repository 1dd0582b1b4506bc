"""`state`: a connection's state moved into another database, or one stream's forgotten."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from connector.commands.session import Session
from connector.errors import ConfigurationError
from connector.output import say
from connector.state import moving, resetting
from connector.state.connections import known
from connector.state.engine import Store
from connector.state.leases import still
from connector.state.owner import this_process

AGAIN = (
    "They go out under the same messageIds: Segment drops those that it got within a day, a warehouse can "
    "tell the others by their id, other destinations see them twice."
)


def _unknown(name: str, means: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no state of connection '{name}'.",
        means=means,
        todo="See with `beamer-segment config show` whether DATABASE_URL names the store that you mean.",
    )


def export(here: Session, store: Store | None, name: str, file: Path) -> dict[str, Any]:
    """Write a connection's state into a new file that only its owner reads."""
    if store is None or known(store, name) is None:
        raise _unknown(name, "Nothing was exported.")
    try:
        number = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be made: {error.strerror}.",
            means="Nothing was exported.",
            todo="Name a file that is not there yet, in a folder that this user may write to.",
        ) from None
    with still(store, name, this_process(), here.clock), os.fdopen(number, "w", encoding="utf-8") as out:
        counted = moving.export(store, name, out)
    return {"connection": name, "file": str(file), "rows": dict(counted)}


def load(store: Store, file: Path) -> dict[str, Any]:
    """Read an exported state into the store that the settings name."""
    try:
        with file.open(encoding="utf-8") as lines:
            name, _ = moving.verified(lines)
        with file.open(encoding="utf-8") as lines:
            counted = moving.load(store, lines, name)
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(
            f"{file} cannot be read: {said}.",
            means="Nothing was imported.",
            todo="Name a file that `state export` has written, and that this user may read.",
        ) from None
    return {"connection": name, "file": str(file), "rows": dict(counted)}


def moved_lines(done: dict[str, Any], what: str) -> Iterator[str]:
    """What was moved, and what to do next."""
    rows: Counter[str] = Counter(done["rows"])
    most = f"{rows['row']:,} seen ids, {rows['outbox']:,} messages"
    yield f"{done['connection']}: {what} {rows.total():,} rows ({most})"
    if what == "exported":
        yield "  it holds what waits for Segment, texts included: delete it when it was imported"
        yield "  from here on use one of the two: what one sends, the other does not know of"


def reset(
    here: Session,
    store: Store | None,
    name: str,
    stream: str,
    make_sure: Callable[[], object],
    *,
    dry_run: bool,
    text: bool,
) -> dict[str, Any]:
    """Forget what was seen of a stream, or say what that would do; `make_sure` ends it if it is not meant."""
    if store is None:
        raise _unknown(name, "There is nothing to reset.")
    scope = resetting.scope_of(store, name, stream)
    counted = resetting.verdicts(store, scope)
    if not dry_run:
        make_sure()
        with still(store, name, this_process(), here.clock) as (fence, _):
            resetting.reset(store, fence, scope, here.clock.now())
    if text:
        would = "would be " if dry_run else ""
        say(f"{name}: {counted.total():,} rows of {stream} {would}forgotten; the next sync reads it again")
        say(f"  up to {counted['event']:,} events {would or 'will be '}sent again. {AGAIN}")
    return {"connection": name, "stream": stream, "rows": counted.total(), "events": counted["event"]}

"""`report`: the page with pictures, into a file or for `schedule` to serve."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from connector.commands.looking import show_status
from connector.commands.session import Session
from connector.config import Connection
from connector.errors import ConfigurationError
from connector.files import READABLE_BY_ALL, put
from connector.service.report.gathering import gathered
from connector.service.report.html import page
from connector.state.engine import Store


def html(
    here: Session, store: Store | None, chosen: Sequence[Connection], links: Iterable[tuple[str, str]] = ()
) -> str:
    """The page of these connections, as the store stands now; no request is spent."""
    found = show_status(here, store, chosen, False)
    now = here.clock.now()
    return page(gathered(store, found, now), now, links)


def write(here: Session, store: Store | None, chosen: Sequence[Connection], file: Path) -> dict[str, Any]:
    """Write the page, all of it or nothing; raises ConfigurationError where that cannot be done."""
    text = html(here, store, chosen).encode()
    try:
        put(file, text, READABLE_BY_ALL)
    except OSError as error:
        raise ConfigurationError(
            f"The report cannot be written to {file}: {error.strerror}.",
            means="Nothing was changed.",
            todo="Name a file in a folder that is there and may be written to.",
        ) from None
    return {"file": str(file), "bytes": len(text), "connections": [each.name for each in chosen]}

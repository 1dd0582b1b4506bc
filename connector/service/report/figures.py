"""The main figures of `status --output json`, in words for the page. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from connector.service.summary import WHY_HELD
from connector.state import outbox

Status = Mapping[str, Any]
NOTHING = "–"


def health(status: Status) -> tuple[str, str, str]:
    """One word, how bad it is (ok, warning, error), and why, empty where there is nothing to say."""
    return str(status["health"]), str(status["grade"]), str(status["why"] or "")


def tiles(status: Status) -> Iterator[tuple[str, str, str]]:
    """Name, words and value of each figure; none before the first run."""
    if status["account"] is None:
        return
    box = status["outbox"]
    yield "newest", "newest row", _when(status["newest"])
    yield "last_success", "last success", _when(status["last_success"])
    yield "requests_used", "requests used", _number(status["requests_used"])
    yield "requests_left", "requests left", _number(status["requests_left"], "no limit")
    if status["requests_left"] is not None:
        yield "requests_at_hand", "at hand now", _number(int(status["requests_at_hand"]))
    yield "waiting", "messages waiting", _number(box.get(outbox.WAITING, 0) + box.get(outbox.FLIGHT, 0))
    yield "dead", "refused by Segment", _number(box.get(outbox.DEAD, 0))
    for why, count in status["held_back"].items():
        yield f"held_{why}", f"held back: {WHY_HELD.get(why, why)}", _number(count)


COLUMNS = (
    "stream",
    "complete through",
    "newest row",
    "rows",
    "sent",
    "lists waiting",
    "quarantined",
    "counters",
    "trouble",
)
TRUST = {True: "trusted", False: "not trusted", None: NOTHING}


def streams(status: Status) -> tuple[tuple[str, ...], list[list[str]]]:
    """The table of streams: its columns and its rows."""
    return COLUMNS, [list(_stream(each)) for each in status["streams"]]


def _stream(stream: Status) -> Iterator[str]:
    yield stream["stream"]
    yield _when(stream["complete_through"])
    yield _when(stream["newest"])
    yield _number(stream["counts"].get("rows", 0))
    yield _number(stream["counts"].get("sent", 0))
    yield _number(stream["lists_waiting"])
    yield _number(sum(stream["quarantined"].values()))
    yield TRUST[stream["counters_trusted"]]
    yield stream["trouble"] or ""


def _when(moment: str | None) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M}" if moment else "never"


def _number(count: int | None, nothing: str = NOTHING) -> str:
    return nothing if count is None else f"{count:,}"

"""Small pictures in text: a bar with a line on it, and a strip of outcomes. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from connector.state.glance import Ran


@dataclass(frozen=True, slots=True)
class Signs:
    """What a terminal can show."""

    full: str
    empty: str
    line: str
    dash: str
    arrow: str
    dots: str


PLAIN = Signs("#", ".", "|", "-", "->", "...")
FINE = Signs("█", "░", "│", "–", "→", "…")


def bar(share: float, line: float | None, width: int, signs: Signs) -> str:
    """`[#####|....]`, `width` signs inside: filled as far as `share`, a line at `line`; both from 0 to 1."""
    filled = _place(share, width + 1)
    # Whatever is spent shows, and so does whatever is left.
    filled = min(max(filled, share > 0), width - (share < 1))
    cells = [signs.full] * filled + [signs.empty] * (width - filled)
    if line is not None:
        cells[_place(line, width)] = signs.line
    return f"[{''.join(cells)}]"


def _place(share: float, places: int) -> int:
    return min(int(max(share, 0.0) * places), places - 1)


OUTCOMES = {
    "done": (".", "done"),
    "stopped": ("s", "stopped at the budget"),
    "interrupted": ("^", "interrupted by a signal"),
    "incomplete": ("i", "incomplete"),
    "failed": ("!", "failed"),
}
UNDER_WAY, KILLED = (">", "under way"), ("x", "killed")


def sign_of(run: Ran, *, under_way: bool) -> tuple[str, str]:
    """One letter for how a run ended, and what it means."""
    if run.finished_at is None:
        return UNDER_WAY if under_way else KILLED
    return OUTCOMES.get(run.outcome or "", OUTCOMES["failed"])


def work_of(command: str) -> str:
    """The kind of work (see `leases`) that a run of this command does."""
    return "backfill" if command == "backfill" else "sync"


def strip(runs: Sequence[Ran], under_way: Iterable[str]) -> tuple[str, str]:
    """The runs, given newest first, as one letter each, oldest first, and what the letters mean.

    `under_way`: the kinds of work (see `leases`) that are being done; only the newest run of one can be it.
    """
    left, signs = set(under_way), []
    for run in runs:
        work = work_of(run.command)
        signs.append(sign_of(run, under_way=work in left))
        left.discard(work)
    letters = "".join(letter for letter, _ in reversed(signs))
    known = [*OUTCOMES.values(), UNDER_WAY, KILLED]
    return letters, ", ".join(f"{letter} {means}" for letter, means in known if (letter, means) in signs)


MINUTE, HOUR, DAY = 60, 3_600, 86_400


def span(length: timedelta | float) -> str:
    """How long, in one unit: 40 s, 12 min, 26 h, 3 d."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 2 * MINUTE:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 3 * DAY else f"{seconds / DAY:,.0f} d"

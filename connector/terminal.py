"""Writing to a terminal: text without characters that move the cursor, hide text or reverse its direction.

Such characters come from anywhere: a row's text, an answer of Segment or a proxy, an argument. They are
written as JSON escapes them, so that JSON stays JSON.
"""

import json
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

# Control characters (C0, DEL, C1), line and paragraph separators, and what has no width, among it all that
# turns the direction; but not the first sixteen variation selectors, which emoji are made with.
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_SEPARATORS = r"\u2028\u2029"
_WITHOUT_WIDTH = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_NO_CHARACTERS = r"\ud800-\udfff"
_ALL = re.compile(f"[{_CONTROL}{_SEPARATORS}{_WITHOUT_WIDTH}{_NO_CHARACTERS}]")
_BUT_LAYOUT = re.compile(f"(?![\\n\\t]){_ALL.pattern}")


class Painted(str):
    """A text that holds our own colours; what else is in it was made printable before."""

    __slots__ = ()


def printable(text: str) -> str:
    """A text of one or more lines as a terminal may get it."""
    return text if isinstance(text, Painted) else _BUT_LAYOUT.sub(_escaped, text)


def one_line(text: str) -> str:
    """The same for a part of a line, such as a table's cell: it cannot begin a line of its own."""
    return text if isinstance(text, Painted) else _ALL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def write(stream: TextIO, text: str) -> None:
    """Write at once; an output error does not stop the run: output to a closed pipe is dropped."""
    if _buffers:
        _buffers[-1].append((stream, text))
        return
    try:
        if text:  # a full disk does not take nothing, either
            stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _to_nowhere(stream)
    except OSError as error:
        if stream is sys.stdout:
            _failures.append(str(error.strerror))
        _drop(stream)


def finish() -> str:
    """Flush what is left; return why standard output did not take all of it, or an empty text."""
    for stream in (sys.stdout, sys.stderr):
        # The parser prints by itself, and Python would fail at its exit with what was not written.
        write(stream, "")
    return _failures[0] if _failures else ""


def _drop(stream: TextIO) -> None:
    """Discard what a stream still buffers."""
    saved = os.dup(stream.fileno())
    _to_nowhere(stream)
    stream.flush()
    os.dup2(saved, stream.fileno())
    os.close(saved)


def _to_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


# Several connections print at once: lines that belong together are printed under this lock.
together = threading.RLock()

# The last lines of a run that fails are enough.
MAX_BUFFERED_LINES = 2_000

_buffers: list[deque[tuple[TextIO, str]]] = []

_failures: list[str] = []


@contextmanager
def buffered_output(wanted: bool = True) -> Iterator[Callable[[], None]]:
    """Buffer all output; drop it at the end unless the yielded function was called or an error occurred."""
    if not wanted:
        yield lambda: None
        return
    lines: deque[tuple[TextIO, str]] = deque(maxlen=MAX_BUFFERED_LINES)
    released: list[bool] = []
    _buffers.append(lines)
    try:
        yield lambda: released.append(True)
    except BaseException:
        released.append(True)
        raise
    finally:
        _buffers.remove(lines)
        for stream, text in lines if released else ():
            write(stream, text)

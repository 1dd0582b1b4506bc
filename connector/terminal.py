"""Writing to standard output and standard error: at once, together, or buffered."""

import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


def terminal_width(stream: TextIO) -> int | None:
    """Return how many columns a terminal has; None if the stream is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def write(stream: TextIO, text: str) -> None:
    """Write at once; an output error does not stop the run: output to a closed pipe is dropped."""
    if _buffers:
        _buffers[-1].append((stream, text))
        return
    try:
        if text:  # on a full disk, writing an empty text fails, too
            stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _to_nowhere(stream)
    except OSError as error:
        if stream is sys.stdout:
            _failures.append(str(error.strerror))
        _drop(stream)


def finish() -> str:
    """Flush the rest; return why standard output did not accept all of it, or an empty text."""
    for stream in (sys.stdout, sys.stderr):
        # The parser prints without `write`, and unwritten output would make Python fail at its exit.
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
def buffered_output(is_dropped: Callable[[], bool]) -> Iterator[None]:
    """Buffer all output; at the end drop it if `is_dropped` says so, unless an error occurred."""
    lines: deque[tuple[TextIO, str]] = deque(maxlen=MAX_BUFFERED_LINES)
    drop = False
    _buffers.append(lines)
    try:
        yield
        drop = is_dropped()
    finally:
        _buffers.remove(lines)
        for stream, text in () if drop else lines:
            write(stream, text)

"""The C library's heap, kept small in a process that runs for long with many threads.

glibc gives each thread a heap of its own, and keeps in all of them what was freed between two things that
are still in use: over 300,000 rows that made a quarter more of memory, of which nothing was held by
anybody. Elsewhere (musl, macOS) these are no-ops, and need not be more.
"""

import ctypes

# From glibc's malloc.h.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
HEAPS = 1
# In bytes, a page of a few rows: what is larger lies by itself, and is given back once it is freed.
LARGE = 8 * 1024


def keep_small() -> None:
    """From now on; to be called before threads are started."""
    _call("mallopt", M_ARENA_MAX, HEAPS)
    _call("mallopt", M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Give the system what was freed; takes some milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *values: int) -> None:
    function = getattr(_library(), name, None)
    if function is not None:
        function(*values)


def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # no C library to be had so
        return None

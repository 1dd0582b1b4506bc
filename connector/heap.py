"""The C library's heap, kept small in a long process with many threads.

glibc gives each thread a heap, and keeps freed memory between two objects in use: a quarter more memory
over 300,000 rows. With other libraries (musl, macOS) these functions do nothing.
"""

import ctypes

# From glibc's malloc.h.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
HEAPS = 1
# In bytes, a page of a few rows: larger objects are allocated apart, and returned when they are freed.
LARGE = 8 * 1024


def keep_small() -> None:
    """Keep the heap small from now on; call it before threads are started."""
    _call("mallopt", M_ARENA_MAX, HEAPS)
    _call("mallopt", M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Return freed memory to the system; takes some milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *values: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # no C library can be loaded this way
        return
    if function is not None:
        function(*values)

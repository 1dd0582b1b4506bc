"""Many lives at once, each process with a database's file of its own."""

import atexit
import gc
import multiprocessing
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.simulation.crashes import Disk, PostgresDisk
from tests.simulation.life import Result, live
from tests.simulation.sometimes import listen
from tests.simulation.story import Story

# A file system in memory, where there is one: thousands of small stores are no work for a disk.
MEMORY = Path("/dev/shm")  # noqa: S108

_disk: Disk | None = None


def begin(server: str | None = None) -> None:
    """Once in each process: who hears the logs, and a database of its own, on a server if one is named."""
    global _disk
    # A life makes few cycles and many objects: looking for cycles at the usual pace is a tenth of its time.
    gc.set_threshold(50_000)
    listen()
    if server is not None:
        on_server = PostgresDisk(server, f"beamer_simulation_{os.getpid()}")
        atexit.register(on_server.drop)
        multiprocessing.util.Finalize(None, on_server.drop, exitpriority=1)
        _disk = on_server
        return
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    folder = tempfile.mkdtemp(prefix="beamer-simulation-", dir=MEMORY if usable else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    multiprocessing.util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=1)
    _disk = Disk(Path(folder))


def lived(of: int | Story, shown: Callable[[str], None] | None = None) -> Result:
    """Live one life in this process."""
    if _disk is None:
        begin()
    assert _disk is not None
    return live(of, _disk, shown)


def all_of(seeds: Iterable[int], jobs: int, server: str | None = None) -> Iterator[Result]:
    """Live many lives over several processes; in whichever order they end."""
    if jobs == 1:
        begin(server)
        yield from map(lived, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, begin, (server,)) as pool:
        yield from pool.imap_unordered(lived, seeds, chunksize=4)

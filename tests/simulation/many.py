"""Many lives at once, each process with a database's file of its own."""

import atexit
import gc
import multiprocessing
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.simulation.crashes import Disk
from tests.simulation.life import Result, live
from tests.simulation.sometimes import listen

# A file system in memory, where there is one: thousands of small stores are no work for a disk.
MEMORY = Path("/dev/shm")  # noqa: S108

_disk: Disk | None = None


def begin() -> None:
    """Once in each process: who hears the logs, and a folder for the database."""
    global _disk
    # A life makes few cycles and many objects: looking for cycles at the usual pace is a tenth of its time.
    gc.set_threshold(50_000)
    listen()
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    folder = tempfile.mkdtemp(prefix="beamer-simulation-", dir=MEMORY if usable else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    multiprocessing.util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=1)
    _disk = Disk(Path(folder))


def lived(seed: int) -> Result:
    """Live one life in this process."""
    if _disk is None:
        begin()
    assert _disk is not None
    return live(seed, _disk)


def all_of(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    """Live many lives over several processes; in whichever order they end."""
    if jobs == 1:
        yield from map(lived, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, begin) as pool:
        yield from pool.imap_unordered(lived, seeds, chunksize=4)

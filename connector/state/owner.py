"""Who holds a lease: enough to tell, on the same machine, whether that process still lives."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process; `started` tells it from a later one with the same pid."""

    host: str
    boot: str
    pid: int
    started: str


def this_process() -> Owner:
    return Owner(socket.gethostname()[:255], _boot(), os.getpid(), _started(os.getpid()) or "")


def is_dead(owner: Owner) -> bool:
    """True only where it is certain: the same host, and another boot or no such process any more."""
    me = this_process()
    if owner.host != me.host or not me.boot:
        return False
    if owner.boot != me.boot:
        return True
    return _started(owner.pid) != owner.started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Clock ticks between boot and the start of a process (field 22 of proc(5) stat), None if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name stands in parentheses and may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]

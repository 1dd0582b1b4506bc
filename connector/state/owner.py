"""Who holds a lease: enough to tell, on the same machine, whether that process still lives."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The process namespace of a whole machine, as against a container's; the same number in every kernel.
WHOLE_MACHINE = "pid:[4026531836]"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process; `started` tells it from a later one with the same pid.

    A pid means something only within one boot and one `space` (process namespace). `machine` is empty
    in a container, where neither it nor the host's name says which machine it is.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    started: str

    @classmethod
    def of(cls, row: Any) -> "Owner":
        """The owner that a lease's row names."""
        return cls(row.host, row.machine, row.boot, row.space, row.pid, row.started)


def this_process() -> Owner:
    space = _space()
    machine = _read("/etc/machine-id") if space == WHOLE_MACHINE else ""
    boot = _read("/proc/sys/kernel/random/boot_id")
    pid = os.getpid()
    return Owner(socket.gethostname()[:255], machine[:64], boot[:64], space, pid, _started(pid) or "")


def is_dead(owner: Owner, me: Owner) -> bool:
    """True only where it is certain: the same machine, and another boot or no such process any more."""
    if not (owner.boot and me.boot):
        return False
    if owner.boot != me.boot:
        return owner.machine == me.machine != ""
    return bool(owner.space) and owner.space == me.space and not _lives(owner)


def _lives(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    # /proc may be hidden from other users: what cannot be seen is taken to live.
    if not Path(f"/proc/{owner.pid}").exists():
        return True
    return _started(owner.pid) == owner.started


def _started(pid: int) -> str | None:
    """Clock ticks between boot and the start of a process (field 22 of proc(5) stat), None if gone."""
    # The command name stands in parentheses and may hold spaces and parentheses itself.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else None


def _space() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(errors="replace").strip()
    return ""

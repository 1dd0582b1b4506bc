"""Writing a file completely or not at all; who else may read it or write to it."""

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

READABLE_BY_ALL = 0o644
READABLE_BY_ONE = 0o600
# As many links as the system follows, too.
MOST_LINKS = 40


def put(target: Path, content: bytes, mode: int) -> None:
    """Write or overwrite a file in one step; raise OSError, and then leave nothing behind.

    A pipe or a device is written to, and a link stays a link. But a link that another user may have made is
    replaced by the file.
    """
    real = _led_to(target)
    if not real.is_symlink() and target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    # Created with mode 0600, and in the same folder, so that it can be renamed in one step.
    descriptor, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.chmod(mode)
        written.replace(real)
    except BaseException:
        with suppress(OSError):
            written.unlink()
        raise


def _led_to(target: Path) -> Path:
    """Return the file to which a path leads by links, or the first link of another user."""
    target = target.absolute()
    for _ in range(MOST_LINKS):
        if any(folder.is_symlink() and _may_be_planted(folder) for folder in target.parents):
            raise OSError(errno.ELOOP, "one of its folders is a link that somebody else may have made")
        if not target.is_symlink() or _may_be_planted(target):
            return target
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _may_be_planted(link: Path) -> bool:
    """Return whether a link is another user's, or in a folder where anybody may make one."""
    folder = link.parent.stat()
    return not (_is_trusted(link.lstat()) and _is_trusted(folder)) or bool(folder.st_mode & stat.S_IWOTH)


def exists(path: Path) -> bool:
    """Return whether there is such a file, as far as this user may see."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_readable_by_others(file: Path) -> bool:
    """Return whether a file's mode lets others read, write or run it; raise OSError if it is not there."""
    return os.name == "posix" and bool(file.stat().st_mode & 0o077)


def open_to_others(file: Path) -> list[Path]:
    """Return the file and the folders above it to which others may write.

    In a folder with a sticky bit, such as /tmp, nobody can remove another user's files.
    """
    folder, *above = file.absolute().parents
    return [path for path in (file, folder, *above) if _is_open(path, sticky=path in above)]


def _is_open(path: Path, *, sticky: bool) -> bool:
    """Return whether others may write to it; `sticky`: a sticky bit is protection enough."""
    try:
        status = path.stat()
    except OSError:  # a folder that may not be entered
        return False
    if os.name != "posix" or (sticky and status.st_mode & stat.S_ISVTX):
        return False
    owned = os.geteuid() == 0 or _is_trusted(status)
    return not owned or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _is_trusted(status: os.stat_result) -> bool:
    return os.name != "posix" or status.st_uid in (0, os.geteuid())

"""The one way in which a file is written: all of it or nothing."""

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
    """Write a file, or write over it, in one step; raises OSError, and then leaves nothing behind.

    What is no file, such as a pipe or a device, is written to, and a link stays one; but a link that somebody
    else may have planted is not followed: the file takes its place.
    """
    real = _led_to(target)
    if not real.is_symlink() and target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    written: Path | None = None
    try:
        # Made with mode 0600; in the same folder, or the rename would not be one.
        with tempfile.NamedTemporaryFile(dir=real.parent, prefix=f".{real.name}.", delete=False) as file:
            written = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.chmod(mode)
        written.replace(real)
        written = None
    finally:
        if written:
            with suppress(OSError):
                written.unlink()


def _led_to(target: Path) -> Path:
    """The file that a path leads to by links; or the first link that may be planted."""
    target = target.absolute()
    for _ in range(MOST_LINKS):
        if any(each.is_symlink() and _may_be_planted(each) for each in target.parents):
            raise OSError(errno.ELOOP, "one of its folders is a link that somebody else may have made")
        if not target.is_symlink() or _may_be_planted(target):
            return target
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _may_be_planted(link: Path) -> bool:
    """Whether a link is another user's, or lies where anybody may put one."""
    folder = link.parent.stat()
    return not (_is_trusted(link.lstat()) and _is_trusted(folder)) or bool(folder.st_mode & stat.S_IWOTH)


def open_to_others(file: Path) -> list[Path]:
    """What of a file and of its folders others may write to.

    In a folder with a sticky bit, such as /tmp, nobody can take away what is another's.
    """
    folder, *above = file.absolute().parents
    return [path for path in (file, folder, *above) if _is_open(path, sticky=path in above)]


def _is_open(path: Path, *, sticky: bool) -> bool:
    """`sticky`: where the sticky bit is enough."""
    try:
        found = path.stat()
    except OSError:  # a folder that may not be entered
        return False
    if os.name != "posix" or (sticky and found.st_mode & stat.S_ISVTX):
        return False
    owned = os.geteuid() == 0 or _is_trusted(found)
    return not owned or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _is_trusted(found: os.stat_result) -> bool:
    return os.name != "posix" or found.st_uid in (0, os.geteuid())

"""The one way in which a file is written: all of it or nothing."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

READABLE_BY_ALL = 0o644
READABLE_BY_ONE = 0o600


def put(target: Path, content: bytes, mode: int) -> None:
    """Write a file, or write over it, in one step; raises OSError, and then leaves nothing behind.

    What is no file, such as a pipe or a device, is written to, and a link stays one.
    """
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    target = target.resolve()
    written: Path | None = None
    try:
        # Made with mode 0600; in the same folder, or the rename would not be one.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            written = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.chmod(mode)
        written.replace(target)
        written = None
    finally:
        if written:
            with suppress(OSError):
                written.unlink()

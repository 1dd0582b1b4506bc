"""A terminal with somebody at it: the program as a process of its own, with a pseudo-terminal around it."""

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field

from tests.cli.process import LONGEST, ROOT, Machine, until

# Ctrl-C reaches the foreground of a session's controlling terminal: the program has to have one.
LAUNCH = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "connector", *sys.argv[1:]])
"""
CTRL_C, CTRL_D = "\x03", "\x04"


@dataclass
class Terminal:
    """One program at a terminal of so many columns; a context manager."""

    machine: Machine
    words: tuple[str, ...]
    columns: int = 80
    launch: str = LAUNCH
    shown: str = field(default="", init=False)
    _read_on: int = field(default=0, init=False)

    def __enter__(self) -> "Terminal":
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self.columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.launch, *self.words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **self.machine.environment()},
        )
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def wait_for(self, text: str) -> None:
        """Read on until a text has come that was not waited for before."""
        while (place := self.shown.find(text, self._read_on)) < 0:
            assert self._read(), (text, self.shown)
        self._read_on = place + len(text)

    def wait_for_silence(self) -> None:
        """Until what is typed is not shown any more: it is turned off only once the question stands there."""
        until(lambda: not termios.tcgetattr(self._master)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def answer(self, question: str, text: str, *, hidden: bool = False) -> None:
        self.wait_for(question)
        if hidden:
            self.wait_for_silence()
        self.type(f"{text}\n")

    def end(self) -> int:
        """Read to the end; give the exit code."""
        while self._read():
            pass
        return self._process.wait(LONGEST)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], LONGEST)
        assert ready, ("nothing more came", self.shown)
        try:
            found = os.read(self._master, 4096)
        except OSError:  # the last one at the other end has gone
            return False
        self.shown += found.decode(errors="replace").replace("\r\n", "\n")
        return bool(found)

"""A daemon seen from outside: its log, its memory, its files, its pages."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Size:
    """What a process takes: memory in MB, open files, threads."""

    memory: float
    files: int
    threads: int


class Daemon:
    """Runs `python -m …` with its log in a file."""

    def __init__(self, module: str, words: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._read = 0
        self._lines: list[dict[str, Any]] = []
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**environ, "PYTHONPATH": str(ROOT)},
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged, as far as whole lines go."""
        with self._log.open() as file:
            file.seek(self._read)
            while (line := file.readline()).endswith("\n"):
                self._read = file.tell()
                if line.startswith("{"):
                    self._lines.append(json.loads(line))
        return self._lines

    def ended(self, job: str = "sync") -> list[dict[str, Any]]:
        """The jobs of a kind that have ended."""
        return [line for line in self.lines if line["event"] == "job_ended" and line["job"] == job]

    @property
    def url(self) -> str | None:
        port = next((line["port"] for line in self.lines if line["event"] == "serving"), None)
        return port and f"http://127.0.0.1:{port}"

    def get(self, path: str) -> int:
        """The status of one of its pages; 0 if it is not there."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=10, trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    @property
    def size(self) -> Size:
        here = Path(f"/proc/{self.process.pid}")
        figures = dict(
            line.split(":", 1) for line in (here / "status").read_text().splitlines() if ":" in line
        )
        memory = int(figures["VmRSS"].split()[0]) / 1024
        return Size(memory, len(os.listdir(here / "fd")), int(figures["Threads"]))  # noqa: PTH208

    def leave(self) -> tuple[int, float]:
        """Ask it to end; its exit code, and how many seconds that took."""
        since = monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), monotonic() - since

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def last_words(self) -> str:
        return self._log.read_text()[-4000:]

"""What the Dockerfile makes, without a container engine: the wheel alone in a venv that nobody can write to.

Programs in it run as a container would run them: as a user without rights or a home, with no file system to
write to. The rest of a container (its own root folder, its limits, its network) is not tried here.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from tests.cli.process import Ended
from tests.places.dockerfile import ROOT, context, only

LONGEST = 120.0


@dataclass(frozen=True, slots=True)
class Image:
    """A folder like the image's, and the program in it."""

    here: Path

    @property
    def programs(self) -> Path:
        return self.here / "venv" / "bin"

    def command(self, words: Sequence[str]) -> list[str]:
        """What a container runs, given a manifest's `args`."""
        (entry,) = only("ENTRYPOINT").listed
        return [str(self.programs / entry), *words]

    def start(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        *,
        uid: int = 10001,
        inside: Sequence[str] = (),
        group: bool = False,
    ) -> "Container":
        """Start it with these arguments and nothing else in the environment; `inside` goes before all."""
        process = subprocess.Popen(
            [*inside, *confined(uid), *self.command(words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.here,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONUNBUFFERED": "1", **environ},
            text=True,
            start_new_session=group,
        )
        return Container(process)

    def run(self, words: Sequence[str], environ: Mapping[str, str], **options: Any) -> Ended:
        return self.start(words, environ, **options).end()


def confined(uid: int) -> list[str]:
    """No rights, and not one byte into any file.

    The one right that is left is to read what is the tests' own: Python may lie in root's folder.
    """
    no_writing = ["prlimit", "--fsize=0", "--core=0"]
    if os.geteuid():
        return ["setpriv", "--no-new-privs", *no_writing]
    rights = "-all,+dac_read_search"
    who = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]
    sets = [f"--{name}={rights}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["setpriv", *who, *sets, *no_writing]


class Container:
    """A process whose words are read as they come: it can have no file to put them into."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        pairs = ((process.stdout, self.out), (process.stderr, self.err))
        self._readers = [Thread(target=self._read, args=pair, daemon=True) for pair in pairs]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        with stream:
            for line in stream:
                into.append(line)

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def end(self, seconds: float = LONGEST) -> Ended:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._hear_out()
        return Ended(code, "".join(self.out), "".join(self.err))

    def kill(self) -> None:
        if not self.over:
            self.process.kill()
            self.process.wait()
        self._hear_out()

    def _hear_out(self) -> None:
        for reader in self._readers:
            reader.join()


def built(here: Path) -> Image:
    """Both stages: the wheel out of what .dockerignore lets in, then the wheel in a clean venv."""
    source, wheels = here / "source", here / "wheels"
    source.mkdir()
    for name in context():
        _copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source)
    (wheel,) = wheels.iterdir()
    image = Image(here)
    venv.create(here / "venv", symlinks=True)
    pip("--python", image.programs / "python", "install", "--no-deps", wheel)
    _lend_dependencies(image)
    shutil.rmtree(source)
    for path in (here / "venv").rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    return image


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copy(source, target)


def _lend_dependencies(image: Image) -> None:
    """The checkout's venv holds what constraints.txt says; its .pth files, and so the checkout, stay out."""
    (site,) = (image.here / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")


def pip(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--no-input", *(str(word) for word in words)],
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

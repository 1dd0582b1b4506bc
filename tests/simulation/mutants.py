"""`python -m tests.simulation.mutants`: break the connector on purpose, and see the simulation notice it."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import connector
from tests.simulation.mutations import MUTANTS, Mutant

PACKAGE = Path(connector.__file__).parent
TESTS = Path(__file__).parent.parent
UNBROKEN = Mutant("unbroken", "nothing", ())
FAILED = re.compile(r"seed (\d+): (.*)")
LIVES = re.compile(r"([\d,]+) lives,")


@dataclass(frozen=True, slots=True)
class Caught:
    """`seed` is None where the mutant lived through all of them."""

    mutant: Mutant
    seed: int | None
    lives: int
    said: str


def main(words: Sequence[str]) -> int:
    asked = _parser().parse_args(words)
    chosen = [mutant for mutant in MUTANTS if not asked.names or mutant.name in asked.names]
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(max(1, asked.jobs)) as workers,
    ):
        task = progress.add_task("breaking", total=len(chosen))
        hunts = [workers.submit(hunt, mutant, asked.seeds, asked.first) for mutant in chosen]
        for done in as_completed(hunts):
            console.print(_line(done.result()), markup=False, soft_wrap=True)
            progress.advance(task)
    found = [done.result() for done in hunts]
    console.print(_table(found))
    for caught in found if asked.shrink else ():
        if caught.seed is not None:
            printed = simulated(caught.mutant, "--seed", str(caught.seed), "--shrink")
            console.print(f"\n{caught.mutant.name}:\n{printed}", markup=False, soft_wrap=True)
    escaped = [caught.mutant.name for caught in found if caught.seed is None]
    console.print(f"{len(found) - len(escaped)} of {len(found)} mutants were caught.")
    return 1 if escaped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="the mutants (default: all)")
    parser.add_argument("--seeds", type=int, default=600, help="lives at the most (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--shrink", action="store_true", help="cut the life that noticed each, and print it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    return parser


def _line(caught: Caught) -> str:
    if caught.seed is None:
        return f"{caught.mutant.name}: NOT CAUGHT in {caught.lives} lives"
    return f"{caught.mutant.name}: seed {caught.seed}, after {caught.lives} lives: {caught.said}"


def _table(found: Sequence[Caught]) -> Table:
    table = Table(
        "mutant", "what it breaks", "caught by seed", "lives", "how it showed", box=None, pad_edge=False
    )
    for caught in found:
        seed = "NOT CAUGHT" if caught.seed is None else str(caught.seed)
        table.add_row(caught.mutant.name, caught.mutant.breaks, seed, str(caught.lives), caught.said)
    return table


def hunt(mutant: Mutant, seeds: int, first: int = 0) -> Caught:
    """Live seeds with a broken copy of the connector until one goes wrong that goes well without."""
    lived, last = 0, first + seeds
    while True:
        caught = _hunted(mutant, last - first, first)
        lived += caught.lives
        if caught.seed is None or _hunted(UNBROKEN, 1, caught.seed).seed is None:
            return replace(caught, lives=lived)
        first = caught.seed + 1


def _hunted(mutant: Mutant, seeds: int, first: int) -> Caught:
    words = ("--seeds", str(seeds), "--first", str(first), "--jobs", "1", "--until-failure")
    printed = simulated(mutant, *words)
    failed, lives = FAILED.search(printed), LIVES.search(printed)
    assert lives is not None
    number = int(lives[1].replace(",", ""))
    return Caught(mutant, int(failed[1]), number, failed[2]) if failed else Caught(mutant, None, number, "")


def simulated(mutant: Mutant, *words: str) -> str:
    """Return what the simulation prints with a broken copy of the connector."""
    with TemporaryDirectory(prefix="mutant-") as folder:
        copy(Path(folder))
        for edit in mutant.edits:
            apply(Path(folder) / "connector" / edit.file, edit.old, edit.new)
        environment = {**os.environ, "PYTHONPATH": folder, "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.stderr:
        raise RuntimeError(f"The simulation of mutant {mutant.name!r} broke down:\n{done.stderr[-2_000:]}")
    return done.stdout


def copy(folder: Path) -> None:
    """The connector, its migrations and this simulation with its sandbox, to be broken elsewhere."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "connector", ignore=ignored)
    shutil.copytree(PACKAGE.parent / "migrations", folder / "migrations", ignore=ignored)
    for part in ("simulation", "sandbox"):
        shutil.copytree(TESTS / part, folder / "tests" / part, ignore=ignored)
    (folder / "tests" / "__init__.py").touch()


def apply(file: Path, old: str, new: str) -> None:
    """Replace what must stand in the file exactly once."""
    text = file.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{file.name} holds {text.count(old)} times:\n{old}")
    file.write_text(text.replace(old, new), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

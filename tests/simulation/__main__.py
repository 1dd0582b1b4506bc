"""The command line: thousands of lives in parallel, or one of them line by line."""

import argparse
import os
import sys
from collections.abc import Sequence
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation import many
from tests.simulation.census import Census
from tests.simulation.life import Result
from tests.simulation.shrink import Shrinker
from tests.simulation.sometimes import ON_SERVER, ON_SQLITE, STATES
from tests.simulation.stories import STORIES
from tests.simulation.story import Story

console = Console(highlight=False)
FEW, MANY = 500, 2_000
WORDS = 160


def main(words: list[str]) -> int:
    asked = _parser().parse_args(words)
    server = os.environ.get("TEST_POSTGRES_URL") if asked.database == "postgresql" else None
    if asked.database == "postgresql" and server is None:
        console.print("TEST_POSTGRES_URL names no server that may create databases.")
        return 2
    if asked.shrink and asked.seed is None:
        console.print("--shrink takes the life of one --seed.")
        return 2
    if asked.shrink:
        return _shrunk(asked.seed, server)
    if asked.seed is not None or asked.story:
        return _one(STORIES[asked.story] if asked.story else asked.seed, server)
    seeds = range(asked.first, asked.first + asked.seeds)
    every_state = asked.every_state or len(seeds) >= MANY
    return _many(
        seeds, max(1, asked.jobs), server, until_failure=asked.until_failure, every_state=every_state
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many lives (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all CPUs)")
    parser.add_argument("--seed", type=int, help="one life, shown line by line")
    parser.add_argument("--story", choices=STORIES, help="one of the stories in stories.py, line by line")
    parser.add_argument("--shrink", action="store_true", help="cut the life of --seed to what makes it fail")
    parser.add_argument(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="postgresql: on the server of TEST_POSTGRES_URL, slower (default: %(default)s)",
    )
    parser.add_argument("--until-failure", action="store_true", help="end at the first life that goes wrong")
    parser.add_argument(
        "--every-state",
        action="store_true",
        help=f"fail if an interesting state never came (always from {MANY:,} lives on)",
    )
    return parser


def _one(of: int | Story, server: str | None) -> int:
    many.begin(server)
    result = many.lived(of, _show)
    console.print(
        f"seed {result.seed}: {result.syncs} syncs, {result.crashes} crashes, {result.overlaps} overlaps"
    )
    return 1 if result.wrong else 0


def _shrunk(seed: int, server: str | None) -> int:
    many.begin(server)
    started, story = monotonic(), many.lived(seed).story
    if story is None:
        console.print(f"All is well in the life of seed {seed}: there is nothing to shrink.")
        return 2
    _show(f"seed {seed}: {_size(story)}: {_first_words(story.wrong)}")
    shrinker = Shrinker(story, lambda shorter: many.lived(shorter).story)
    story = shrinker.shrink()
    lines: list[str] = []
    many.lived(story, lines.append)
    # The first line is the plan, which the story holds as settings.
    _show("\n".join(lines[1:]))
    _show(f"{_size(story)} are left after {shrinker.lives} lives, {monotonic() - started:.0f} s:\n\n{story}")
    return 1


def _size(story: Story) -> str:
    return f"{story.syncs} syncs, {len(story.events)} events and {len(story.settings)} settings"


def _show(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _many(seeds: range, jobs: int, server: str | None, *, until_failure: bool, every_state: bool) -> int:
    census, results = Census(), list[Result]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulating", total=len(seeds))
        for result in many.all_of(seeds, jobs, server):
            census.add(result.census)
            results.append(result)
            progress.advance(task)
            if result.wrong:
                console.print(_told(result), markup=False, soft_wrap=True)
                progress.update(task, description=f"simulating, {sum(bool(r.wrong) for r in results)} wrong")
                if until_failure:
                    break
    wrong = [result for result in results if result.wrong]
    states = STATES + (ON_SERVER if server else ON_SQLITE)
    _say(results, census, states)
    never = census.never if len(results) >= FEW and not until_failure else []
    if never:
        console.print(f"No crash struck: {', '.join(never)}", markup=False, soft_wrap=True)
    unreached = census.unreached(states)
    if unreached:
        console.print(f"Never reached: {'; '.join(unreached)}", markup=False, soft_wrap=True)
    return 1 if wrong or never or (unreached and every_state and not until_failure) else 0


def _told(result: Result) -> str:
    again = f"python -m tests.simulation --seed {result.seed}"
    return f"seed {result.seed}: {_first_words(result.wrong)}\n  again: {again}\n  shrunk: {again} --shrink"


def _first_words(said: str | None) -> str:
    return " ".join(str(said).split())[:WORDS]


def _say(results: list[Result], census: Census, states: Sequence[str]) -> None:
    table = Table("moment", "passed", "crashes", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in sorted(census.passed):
        table.add_row(kind, f"{census.passed[kind]:,}", f"{census.struck[kind]:,}")
    console.print(table)
    for state in states:
        console.print(f"{census.states[state]:>9,}  {state}", markup=False)
    for what, number in sorted(census.sums.items()):
        console.print(f"{what}: {number:,}")
    lives = len(results)
    fewest = min((result.syncs for result in results if not result.wrong), default=0)
    both = sum(bool(result.crashes and result.overlaps) for result in results)
    wrong = sum(bool(result.wrong) for result in results)
    console.print(
        f"{lives:,} lives, {sum(result.syncs for result in results):,} syncs (at least {fewest} in each); "
        f"{both:,} lives with a crash and an overlap; {wrong:,} wrong"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

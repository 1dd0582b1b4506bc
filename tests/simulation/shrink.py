"""A failing life cut to the fewest choices with which the same promise is still broken.

It is tried again and again with something left out: whole kinds of choices, syncs with all that belongs to
them, then ever smaller parts, down to single choices; then with simpler values. It ends when nothing more
can be left out, and takes the same way each time.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

from tests.simulation.story import Story

SYNC = re.compile(r"sync \d+")
DIGITS = re.compile(r"\d+")
UNITS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
# Lives a story, and returns as much of it as came before something was wrong; None where all is well.
Lives = Callable[[Story], Story | None]


class Shrinker:
    """Takes a life that went wrong; `lives` counts how many more were lived."""

    def __init__(self, story: Story, live: Lives) -> None:
        self.story = story
        self.lives = 0
        self._live = live
        self._tried: set[str] = set()

    def shrink(self) -> Story:
        """Leave out what can be left out, until nothing more can."""
        before = None
        while before != self.story:
            before = self.story
            for groups in (_kinds, _syncs, _settings, _single):
                self._leave_out(groups)
            self._simplify()
        return self.story

    def _leave_out(self, grouped: Callable[[Story], list[set[str]]]) -> None:
        """Leave out groups of choices: all at once, in halves, in quarters, at last one by one."""
        groups = grouped(self.story)
        size = len(groups)
        while size:
            for start in range(0, len(groups), size):
                # Only what is still there: leaving out one thing lets others go, too.
                names = set[str]().union(*groups[start : start + size]) & self.story.all.keys()
                if names:
                    self._try(self.story.without(names))
            size //= 2

    def _simplify(self) -> None:
        for name in self.story.all:
            while name in self.story.all and any(
                self._try(self.story.with_(name, value)) for value in simpler(self.story.all[name])
            ):
                pass

    def _try(self, story: Story) -> bool:
        """Keep a story if the same promise is broken in it, as far as it came."""
        words = str(story)
        if words in self._tried:
            return False
        self._tried.add(words)
        self.lives += 1
        lived = self._live(story)
        if lived is None or lived.kind != self.story.kind:
            return False
        self.story = lived
        return True


def _kinds(story: Story) -> list[set[str]]:
    return _by(story.events, lambda name: DIGITS.sub("", name))


def _syncs(story: Story) -> list[set[str]]:
    syncs = (name for name in story.events if SYNC.search(name))
    return _by(syncs, lambda name: SYNC.findall(name)[0])


def _settings(story: Story) -> list[set[str]]:
    return _by(story.settings, lambda name: name.rpartition(".")[0] or name)


def _single(story: Story) -> list[set[str]]:
    return [{name} for name in story.all]


def _by(names: Iterable[str], key: Callable[[str], str]) -> list[set[str]]:
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(key(name), set()).add(name)
    return list(groups.values())


def simpler(value: Any) -> Iterator[Any]:
    """Yield values of the same type that say the same with less, the simplest first."""
    if isinstance(value, bool | str | bytes):
        return
    if isinstance(value, int) and value > 1:
        yield from sorted({1, value // 2, value - 1})
    elif isinstance(value, float):
        yield from (rounded for digits in (0, 1) if 0.0 < (rounded := round(value, digits)) < value)
    elif isinstance(value, timedelta) and value > timedelta(0):
        times = (part // unit * unit for part in (value // 2, value) for unit in UNITS)
        yield from dict.fromkeys(time for time in times if time < value)
    elif isinstance(value, tuple):
        for number, part in enumerate(value):
            yield from ((*value[:number], other, *value[number + 1 :]) for other in simpler(part))

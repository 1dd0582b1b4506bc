"""What a simulation went through: how often a moment came, a crash struck in it, and a state was reached."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Census:
    passed: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Census") -> None:
        self.passed.update(other.passed)
        self.struck.update(other.struck)
        self.sums.update(other.sums)
        self.states.update(other.states)

    @property
    def never(self) -> list[str]:
        """Kinds of moments that came and in which no crash ever struck."""
        return sorted(kind for kind in self.passed if not self.struck[kind])

    def unreached(self, states: Iterable[str]) -> list[str]:
        """Those of the states that never came."""
        return [state for state in states if not self.states[state]]

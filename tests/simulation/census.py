"""What a simulation went through: by kind, how often a moment came and how often a crash struck in it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Census:
    passed: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Census") -> None:
        self.passed.update(other.passed)
        self.struck.update(other.struck)
        self.sums.update(other.sums)

    @property
    def never(self) -> list[str]:
        """Kinds of moments that came and in which no crash ever struck."""
        return sorted(kind for kind in self.passed if not self.struck[kind])

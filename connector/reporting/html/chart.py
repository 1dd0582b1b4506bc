"""A picture as data: what is drawn, the sentence that says the same, and the table behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Value = float | None


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or the bars of one colour; None where there is nothing to draw."""

    name: str
    values: Sequence[Value]
    dashed: bool = False
    # One of the page's colours; by default each series has the next one.
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart; `kind`: bar, stack, line or share (horizontal, in percent); `labels`: days in ISO form."""

    name: str
    title: str
    caption: str
    kind: str
    labels: Sequence[str]
    series: Sequence[Series]
    unit: str
    # Of the table; its first column holds the labels.
    head: str = "day"
    digits: int = 0

    @property
    def empty(self) -> bool:
        """Nothing to draw: the caption says why."""
        return all(not value for series in self.series for value in series.values)

    @property
    def drawn(self) -> dict[str, Any]:
        """As the page's script draws it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "labels": list(self.labels),
            "series": [
                {
                    "name": each.name,
                    "values": [_short(value) for value in each.values],
                    "dashed": each.dashed,
                    "colour": index if each.colour is None else each.colour,
                }
                for index, each in enumerate(self.series)
            ],
        }

    @property
    def columns(self) -> list[str]:
        return [self.head, *(series.name for series in self.series)]

    @property
    def rows(self) -> list[list[str]]:
        """The table's cells; days on which nothing was are left out."""
        lines = zip(self.labels, *(series.values for series in self.series), strict=True)
        return [
            [label, *("–" if value is None else f"{value:,.{self.digits}f}" for value in values)]
            for label, *values in lines
            if any(values)
        ]


def _short(value: Value) -> Value:
    return None if value is None else round(value, 3)

"""The connector does not grow, and the files that answer the first questions are there."""

import re
from statistics import median, quantiles

from tests.measure import ROOT, measured

# What is reached. The aims are 115 modules, 20,500 lines, 4.5 imports in the mean and 16 at most.
MODULES, LINES, MEAN_IMPORTS, MOST_IMPORTS = 165, 33_609, 6.82, 23


def test_it_does_not_grow() -> None:
    figures = measured()
    assert figures.modules <= MODULES, f"{figures}"
    assert figures.lines <= LINES, f"{figures}"
    assert sum(figures.imports.values()) / len(figures.imports) <= MEAN_IMPORTS, f"{figures}"
    assert max(figures.imports.values()) <= MOST_IMPORTS, f"{figures}"
    assert not figures.small, f"{figures}"


def test_its_functions_are_short() -> None:
    lengths = sorted(measured().functions.values())
    assert median(lengths) <= 6
    assert quantiles(lengths, n=10)[-1] <= 20
    assert lengths[-1] <= 60


def test_eight_questions_have_a_file_each() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    answers = re.findall(r"^\| How is [^|]+\? \| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(answers) == len(set(answers)) == 8
    assert all((ROOT / path).is_file() for path in answers)

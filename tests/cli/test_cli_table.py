"""Lines and tables on a terminal of so many columns: words stay whole."""

import pytest

from connector.text import Painted, Verbatim, counted, table, wrapped

HEAD = ("run", "started", "why")
ROWS = [("1", "2026-03-01 00:00", "No request is available now"), ("12", "2026-03-01 01:00", "")]
WIDE = [
    "run  started           why",
    "1    2026-03-01 00:00  No request is available now",
    "12   2026-03-01 01:00",
]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (None, WIDE),
        (50, WIDE),
        (
            45,
            [
                "run  started           why",
                "1    2026-03-01 00:00  No request is",
                "                       available now",
                "12   2026-03-01 01:00",
            ],
        ),
        (
            40,
            [
                "run  started",
                "1    2026-03-01 00:00",
                "    why No request is available now",
                "12   2026-03-01 01:00",
            ],
        ),
        (
            20,
            [
                "run",
                "1",
                "    started",
                "    2026-03-01",
                "    00:00, why No",
                "    request is",
                "    available now",
                "12",
                "    started",
                "    2026-03-01 01:00",
            ],
        ),
    ],
)
def test_a_table_fits(width: int | None, lines: list[str]) -> None:
    assert list(table(HEAD, ROWS, width)) == lines


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("", [""]),
        ("  short", ["  short"]),
        ("  one two three four", ["  one two", "    three four"]),
        (Verbatim("one two three four five"), ["one two three four five"]),
        (Painted("\x1b[1mone\x1b[0m two three"), ["\x1b[1mone\x1b[0m two three"]),
    ],
)
def test_a_line_is_wrapped_between_words(line: str, lines: list[str]) -> None:
    assert wrapped(line, 14) == lines


def test_a_number_with_its_noun() -> None:
    assert [counted(number, "new row") for number in (0, 1, 1200)] == [
        "0 new rows",
        "1 new row",
        "1,200 new rows",
    ]

"""Text for people: numbers with what they count, and nothing that moves a cursor or hides other text.

A row's text, an answer of Segment or a proxy, or an argument may contain characters that move the cursor,
hide text or reverse its direction. They are written as JSON escapes them, so that JSON stays JSON.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import accumulate, zip_longest

# Control characters (C0, DEL, C1), line and paragraph separators, and characters without width, including
# all that change the direction; but not the first sixteen variation selectors, which emoji need.
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_SEPARATORS = r"\u2028\u2029"
_WITHOUT_WIDTH = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_NO_CHARACTERS = r"\ud800-\udfff"
_ALL = re.compile(f"[{_CONTROL}{_SEPARATORS}{_WITHOUT_WIDTH}{_NO_CHARACTERS}]")
_BUT_LAYOUT = re.compile(f"(?![\\n\\t]){_ALL.pattern}")


class Painted(str):
    """A text with our own colours, the rest of which is printable already."""

    __slots__ = ()


class Verbatim(str):
    """A line to be copied or parsed, which is not wrapped."""

    __slots__ = ()


def printable(text: str) -> str:
    """Return a text of one or more lines with all but line breaks and tabs escaped."""
    return text if isinstance(text, Painted) else _BUT_LAYOUT.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return a part of a line, such as a table's cell, with line breaks and tabs escaped, too."""
    return text if isinstance(text, Painted) else _ALL.sub(_escaped, text)


def counted(number: int, noun: str) -> str:
    """Return `1 row` or `1,200 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


# --- the width ---

# Two columns apart. A wrapped column keeps at least this number of signs.
GAP, NARROWEST = 2, 20


def wrapped(line: str, width: int | None, indent: int | None = None) -> list[str]:
    """Wrap a line between words; further lines are indented, by default two columns more."""
    if width is None or len(line) <= width or isinstance(line, Painted | Verbatim):
        return [line]
    body = line.lstrip(" ")
    margin = len(line) - len(body)
    deeper = min(margin + 2 if indent is None else indent, width // 3)
    first, further = " " * margin, " " * deeper
    return textwrap.wrap(body, width, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield a table's lines. Where it is too wide, cells are wrapped, or its last columns go below a row."""
    columns = [*zip(head, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    sizes = _fitted(columns, widths, width) or widths[: _that_fit(widths, width or 0)]
    for number, row in enumerate([head, *rows]):
        cells = [wrapped(cell, size, 0) for cell, size in zip(row, sizes, strict=False)]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = (part.ljust(size + GAP) for part, size in zip(parts, sizes, strict=True))
            yield "".join(padded).rstrip()
        rest = zip(head[len(sizes) :], row[len(sizes) :], strict=True)
        further = [f"{name} {cell}" for name, cell in rest if cell]
        yield from wrapped(f"    {', '.join(further)}", width, 4) if further and number else ()


def _fitted(columns: Sequence[Sequence[str]], widths: Sequence[int], width: int | None) -> list[int] | None:
    """Return widths of columns that fit, some of them wrapped between words; None if there are none."""
    fitted, excess = [*widths], 0 if width is None else sum(widths) + GAP * (len(widths) - 1) - width
    least = [max(NARROWEST, *(len(word) for cell in column for word in cell.split())) for column in columns]
    for index in sorted(range(len(widths)), key=lambda index: least[index] - widths[index]):
        cut = min(max(excess, 0), max(widths[index] - least[index], 0))
        fitted[index], excess = fitted[index] - cut, excess - cut
    return None if excess > 0 else fitted


def _that_fit(widths: Sequence[int], width: int) -> int:
    """Return how many columns fit, from the left; at least one."""
    return max(1, sum(end + GAP * number <= width for number, end in enumerate(accumulate(widths))))

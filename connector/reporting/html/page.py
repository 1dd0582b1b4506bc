"""The report as one HTML file that requests nothing from the network."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from connector import __version__
from connector.reporting.html.chart import Chart
from connector.reporting.html.days import health, streams, tiles
from connector.reporting.html.report_data import Subject
from connector.terminal import one_line

# Chart.js, as published; its licence lies beside it.
LIBRARY, SCRIPT, STYLE = "chart.umd.min.js", "report.js", "report.css"
# With more of them on one page each is opened by hand.
MOST_OPEN = 3


@cache
def _asset(name: str) -> str:
    text = files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
    # A browser's tools would ask for the map.
    return "\n".join(line for line in text.splitlines() if not line.startswith("//# sourceMappingURL="))


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def policy() -> str:
    """What a browser may do with the page: run these two scripts, use this style, and contact nobody."""
    scripts = f"{_digest(_asset(LIBRARY))} {_digest(_asset(SCRIPT))}"
    style = _digest(_asset(STYLE))
    return f"default-src 'none'; script-src {scripts}; style-src {style}; base-uri 'none'; form-action 'none'"


def escape(text: str) -> str:
    """A text for HTML, without what would turn round or hide the words beside it."""
    return html.escape(one_line(text))


def page(subjects: Sequence[Subject], now: datetime, links: Iterable[tuple[str, str]] = ()) -> str:
    """HTML; `links` are pairs of what to read and an address, where the page is served."""
    is_open = len(subjects) <= MOST_OPEN
    nav = " · ".join(f'<a href="{escape(address)}">{escape(words)}</a>' for words, address in links)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(_title(subjects))}</title>\n<style>{_asset(STYLE)}</style>\n</head>\n<body>\n"
        f"<header><h1>beamer-segment</h1><p>State of the database at <time>{now:%Y-%m-%d %H:%M} UTC</time>; "
        f"days are UTC days. Version {escape(__version__)}.</p>{f'<nav>{nav}</nav>' if nav else ''}"
        "<noscript><p>The charts need scripts; the tables below them have the same figures.</p></noscript>"
        f"</header>\n<main>\n{''.join(_section(each, is_open) for each in subjects)}</main>\n"
        f"<footer><p>Charts by Chart.js, MIT licence.</p></footer>\n"
        f"{_data('status', [each.status for each in subjects])}"
        f"{_data('charts', [[chart.drawn for chart in each.charts if not chart.empty] for each in subjects])}"
        f"<script>{_asset(LIBRARY)}</script>\n<script>{_asset(SCRIPT)}</script>\n</body>\n</html>\n"
    )


def _title(subjects: Sequence[Subject]) -> str:
    return f"beamer-segment: {', '.join(each.name for each in subjects[:MOST_OPEN]) or 'no connection'}"


def _data(name: str, value: Any) -> str:
    """JSON that a script tag cannot end, nor a comment open."""
    text = json.dumps(value, default=str, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _section(subject: Subject, is_open: bool) -> str:
    word, grade, why = health(subject.status)
    pictures = "".join(_figure(subject.name, chart) for chart in subject.charts)
    return (
        f'<details class="connection" data-connection="{escape(subject.name)}"{" open" if is_open else ""}>'
        f"<summary><h2>{escape(subject.name)}</h2> "
        f'<span class="health {escape(grade)}" data-figure="health">{escape(word)}</span></summary>\n'
        f"<p>{escape(subject.status['limit'])}{f'. {escape(why)}' if why else ''}</p>\n"
        f"{_tiles(subject)}{_streams(subject)}<div class='pictures'>\n{pictures}</div></details>\n"
    )


def _tiles(subject: Subject) -> str:
    cells = "".join(
        f'<div><dt>{escape(words)}</dt><dd data-figure="{escape(name)}">{escape(said)}</dd></div>'
        for name, words, said in tiles(subject.status)
    )
    return f'<dl class="tiles">{cells}</dl>\n' if cells else "<p>This connection has not run yet.</p>\n"


def _streams(subject: Subject) -> str:
    columns, rows = streams(subject.status)
    return _table("Streams", columns, rows, kind="words") if rows else ""


def _figure(connection: str, chart: Chart) -> str:
    name = escape(f"{connection}-{chart.name}")
    picture = (
        ""
        if chart.empty
        else f'<div class="canvas {escape(chart.kind)}"><canvas role="img" id="{name}" '
        f'aria-label="{escape(chart.title)}: {escape(chart.caption)}"></canvas></div>'
    )
    table = "" if chart.empty else _details(chart)
    return (
        f'<figure class="picture" data-picture="{escape(chart.name)}"><h3>{escape(chart.title)}</h3>{picture}'
        f"<figcaption>{escape(chart.caption)}</figcaption>{table}</figure>\n"
    )


def _details(chart: Chart) -> str:
    caption = f"{chart.title}, in {chart.unit}"
    return f"<details><summary>The figures</summary>{_table(caption, chart.columns, chart.rows)}</details>"


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(each)}</td>" for each in rest)}</tr>'
        for first, *rest in rows
    )
    words = escape(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{words}"><table class="{kind}">'
        f"<caption>{words}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )

"""The page with pictures as a browser shows it: the figures, both schemes, a phone, paper, and no network."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from connector.daemon.http import HTML, Page, StatusServer
from connector.reporting.html.page import policy
from tests.browser.chromium import Chromium, Tab
from tests.browser.conftest import Written

# Each of these opens a browser's tab; the first one starts the browser.
pytestmark = pytest.mark.slow

PICTURES = ["quota", "rows", "delay", "runs", "purposes", "completeness"]
PHONE = 360
# These move with the clock, between the writing of the page and the asking of `status`.
BY_THE_CLOCK = {"requests_available", "requests_again_at", "requests_even"}
INK = {False: "#1c2430", True: "#e7ebf0"}


@pytest.fixture
def tab(browser: Chromium, written: Written) -> Tab:
    return browser.page(written.url)


def embedded(tab: Tab, name: str) -> Any:
    return json.loads(tab.asks(f"document.getElementById('{name}').textContent"))


def drawn(tab: Tab, picture: str, connection: str = "default") -> Any:
    """What Chart.js holds of a picture: labels, and values by series."""
    found = tab.asks(
        f"(() => {{ const chart = Chart.getChart('{connection}-{picture}'); return chart && {{"
        "labels: chart.data.labels, "
        "series: Object.fromEntries(chart.data.datasets.map((each) => [each.label, each.data])), "
        "ink: chart.options.scales.y.ticks.color }; })()"
    )
    assert found, picture
    return found


def colours(tab: Tab, picture: str) -> int:
    """How many colours a picture is made of; a blank one has a single one."""
    return int(
        tab.asks(
            f"(() => {{ const canvas = document.getElementById('default-{picture}');"
            "const at = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
            "return new Set(new Uint32Array(at.buffer)).size; })()"
        )
    )


def test_it_shows_what_status_says(tab: Tab, written: Written) -> None:
    (status,) = written.status
    (inside,) = embedded(tab, "status")
    steady = status.keys() - BY_THE_CLOCK
    assert {name: inside[name] for name in steady} == {name: status[name] for name in steady}
    assert inside["requests_available"] == pytest.approx(status["requests_available"], abs=1)

    box, shown = status["outbox"], dict(figures(tab))
    assert shown["health"] == status["health"]
    assert shown["requests_used"] == f"{status['requests_used']:,}"
    assert shown["requests_left"] == f"{status['requests_left']:,}"
    assert shown["requests_available"] == f"{int(inside['requests_available']):,}"
    assert shown["waiting"] == f"{box.get('waiting', 0) + box.get('flight', 0):,}"
    assert shown["dead"] == f"{box.get('dead', 0):,}"
    assert shown["newest"] == status["newest"][:16].replace("T", " ")
    assert shown["last_success"] == status["last_success"][:16].replace("T", " ")
    assert shown["held_no_user"] == f"{status['held_back']['no_user']:,}"
    assert [row.split("|") for row in streams(tab)] == [
        [
            each["stream"],
            each["complete_through"][:16].replace("T", " "),
            each["newest"][:16].replace("T", " "),
            f"{each['counts']['rows']:,}",
            f"{each['counts']['sent']:,}",
        ]
        for each in status["streams"]
    ]


def figures(tab: Tab) -> Iterator[tuple[str, str]]:
    names = tab.asks("[...document.querySelectorAll('[data-figure]')].map((e) => e.dataset.figure)")
    return zip(names, tab.texts("[data-figure]"), strict=True)


def streams(tab: Tab) -> list[str]:
    found = tab.asks(
        "[...document.querySelectorAll('table.words tbody tr')]"
        ".map((row) => [...row.cells].slice(0, 5).map((cell) => cell.textContent).join('|'))"
    )
    assert isinstance(found, list)
    return found


def test_the_pictures_show_what_status_says(tab: Tab, written: Written) -> None:
    (status,) = written.status
    quota = drawn(tab, "quota")
    left = [value for value in quota["series"]["left"] if value is not None]
    assert left[-1] == status["requests_left"]
    spent = drawn(tab, "purposes")
    assert sum(map(sum, spent["series"].values())) == status["requests_used"]
    runs = drawn(tab, "runs")
    assert runs["series"]["killed"].count(1) == 1
    assert sum(map(sum, runs["series"].values())) > 24 * 28
    delay = drawn(tab, "delay")["series"]
    pairs = zip(delay["mean"], delay["95th percentile"], strict=True)
    assert all(mean is None or 0 < mean <= most for mean, most in pairs)


def test_every_picture_is_drawn_and_said_in_words(tab: Tab) -> None:
    assert tab.asks("[...document.querySelectorAll('figure')].map((e) => e.dataset.picture)") == PICTURES
    for name in PICTURES:
        assert colours(tab, name) > 20, name
        assert tab.asks(f"document.getElementById('default-{name}').getAttribute('role')") == "img"
        here = f"[data-picture={name}]"
        (title,), (caption,) = tab.texts(f"{here} h3"), tab.texts(f"{here} figcaption")
        assert caption.endswith(".")
        label = f"document.getElementById('default-{name}').getAttribute('aria-label')"
        assert tab.asks(label) == f"{title}: {caption}"
        # The table holds what the picture shows, behind a summary that opens without a script.
        cells = tab.texts(f"{here} details tbody td")
        values = [value for of in drawn(tab, name)["series"].values() for value in of if value]
        assert sum(cell not in ("–", "0", "0.00") for cell in cells) == len(values) > 0


def test_it_asks_the_network_for_nothing(tab: Tab, written: Written) -> None:
    assert tab.requested == [written.url]
    assert tab.complaints == []


def test_served_it_asks_for_nothing_more(browser: Chromium, written: Written) -> None:
    page = Page(written.file.read_bytes(), HTML, policy=policy())
    with closing(StatusServer("127.0.0.1:0", {"/": lambda: page})) as board:
        tab = browser.page(f"http://127.0.0.1:{board.port}/")
        assert drawn(tab, "rows")["labels"]
        assert tab.complaints == []
        assert tab.requested == [f"http://127.0.0.1:{board.port}/"]


def test_it_may_not_ask_the_network_or_run_what_is_not_its_own(tab: Tab) -> None:
    assert tab.asks("window.stranger") is None
    tab.asks(
        "(() => { const script = document.createElement('script'); "
        "script.textContent = 'window.stranger = 1'; document.body.append(script); "
        "const picture = new Image(); picture.src = 'http://127.0.0.1:9/x.png'; "
        "document.body.append(picture); })()"
    )
    assert tab.asks("window.stranger") is None
    refused = [said for said in tab.complaints if "Content Security Policy" in said]
    assert len(refused) == 2, tab.complaints


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark(browser: Chromium, written: Written, dark: bool) -> None:
    tab = browser.page(written.url, dark=dark)
    assert drawn(tab, "rows")["ink"] == INK[dark]
    paper = brightness(tab, "backgroundColor")
    ink = brightness(tab, "color")
    assert (paper < 60 and ink > 200) if dark else (paper > 240 and ink < 60)
    tab.media(dark=not dark)
    tab.until(f"Chart.getChart('default-rows').options.scales.y.ticks.color === '{INK[not dark]}'")


def brightness(tab: Tab, what: str) -> float:
    found = tab.asks(f"getComputedStyle(document.body).{what}.match(/[0-9]+/g).slice(0, 3).map(Number)")
    return float(sum(found)) / 3


def test_it_fits_on_a_phone(browser: Chromium, written: Written) -> None:
    tab = browser.page(written.url, width=PHONE, height=740)
    assert tab.asks("innerWidth") == PHONE
    tab.asks("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert tab.asks("document.scrollingElement.scrollWidth") <= PHONE
    boxes = (
        "[...document.querySelectorAll('canvas, figure, .tiles, figcaption')]"
        ".map((each) => each.getBoundingClientRect())"
    )
    assert tab.asks(f"{boxes}.every((box) => box.left >= 0 && box.right <= {PHONE} && box.width > 0)")
    for name in PICTURES:
        assert colours(tab, name) > 20, name


def test_on_paper_it_is_light_and_whole(browser: Chromium, written: Written) -> None:
    tab = browser.page(written.url, dark=True)
    tab.asks("window.onPaper = []")
    tab.asks(
        "addEventListener('beforeprint', () => Object.values(Chart.instances)"
        ".forEach((chart) => onPaper.push(chart.options.scales.y.ticks.color)))"
    )
    pdf = tab.printed()
    assert pdf.startswith(b"%PDF")
    assert tab.asks("onPaper") == [INK[False]] * len(PICTURES)
    # And it is as it was afterwards.
    assert drawn(tab, "rows")["ink"] == INK[True]
    # The pictures are drawn as lines, and are most of what is printed.
    tab.asks("document.querySelectorAll('canvas').forEach((each) => { each.style.visibility = 'hidden'; })")
    assert len(pdf) > len(tab.printed()) + 10_000
    tab.media(dark=True, kind="print")
    tab.asks("document.documentElement.dataset.scheme = 'print'")
    assert brightness(tab, "backgroundColor") > 240


def test_many_connections_are_opened_by_hand_and_all_of_them_on_paper(
    browser: Chromium, many: Written
) -> None:
    tab = browser.page(many.url)
    assert tab.texts("h2") == ["a", "b", "c", "d"]
    assert tab.asks("Object.values(Chart.instances).length") == 0
    tab.asks("document.querySelector('.connection').open = true")
    tab.asks("document.querySelector('.connection').dispatchEvent(new Event('toggle'))")
    assert drawn(tab, "rows", "a")["labels"]
    tab.asks("window.onPaper = 0")
    tab.asks("addEventListener('beforeprint', () => { onPaper = Object.values(Chart.instances).length; })")
    assert tab.printed().startswith(b"%PDF")
    assert tab.asks("onPaper") == 4 * len(PICTURES)
    assert tab.asks("document.querySelectorAll('.connection[open]').length") == 1

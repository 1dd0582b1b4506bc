"""The report as a browser shows it: banner, figures and charts, both schemes, a phone, paper, no network."""

import json
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest

from connector.daemon.http import HTML, Page, StatusServer
from tests.browser.chromium import Chromium, Tab
from tests.browser.conftest import Written

# Each of these opens a browser's tab; the first one starts the browser.
pytestmark = pytest.mark.slow

CHARTS = ["quota", "rows", "delay", "runs", "purposes"]
CARDS = [*CHARTS, "missing", "excluded"]
PHONE = 360
INK = {False: [23, 32, 43], True: [230, 235, 241]}


@pytest.fixture
def tab(browser: Chromium, written: Written) -> Tab:
    return browser.page(written.url)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def clock(text: str, now: datetime) -> str:
    """A moment as the page says it: without the date if that is today's."""
    found = moment(text)
    return f"{found:%H:%M}" if found.date() == now.date() else f"{found:%Y-%m-%d %H:%M}"


def ago(text: str, now: datetime) -> str:
    """How long ago that was; everything that is planted is older than an hour and younger than two days."""
    minutes = (now - moment(text)) // timedelta(minutes=1)
    return f"{minutes} minutes ago" if minutes < 120 else f"{minutes // 60} hours ago"


def written_at(tab: Tab) -> datetime:
    return moment(tab.asks("document.querySelector('time').dateTime"))


def test_it_shows_what_status_says(tab: Tab, written: Written) -> None:
    (status,) = written.status
    now, box, first = written_at(tab), status["outbox"], status["streams"][0]["complete_through"]
    names = tab.asks("[...document.querySelectorAll('[data-figure]')].map((e) => e.dataset.figure)")
    shown = dict(zip(names, tab.texts("[data-figure]"), strict=True))
    available = int(shown.pop("requests_available"))
    assert available == pytest.approx(status["requests_available"], abs=1)  # it moves with the clock
    assert shown == {
        "health": f"{status['health'].capitalize()}.",
        "complete": f"All 7 streams are complete up to {clock(first, now)} UTC, {ago(first, now)}.",
        "newest": ago(status["newest"], now),
        "last_success": ago(status["last_success"], now),
        "requests_used": f"{status['requests_used']:,}",
        "requests_left": f"{status['requests_left']:,}",
        "waiting": f"{box.get('waiting', 0) + box.get('flight', 0):,}",
        "dead": f"{box.get('dead', 0):,}",
        **{f"excluded_{why}": f"{count:,}" for why, count in status["excluded"].items()},
    }
    assert rows(tab, "main > .scroll") == [
        [
            each["stream"].replace("_", " ").replace("nps", "NPS"),
            *(f"{ago(each[name], now)} {clock(each[name], now)}" for name in ("complete_through", "newest")),
            f"{each['counts']['rows']:,}",
            f"{each['counts']['sent']:,}",
            f"{each['lists_waiting']:,}",
            f"{sum(each['quarantined'].values()):,}",
            {True: "trusted", False: "untrusted", None: "–"}[each["counters_trusted"]],
        ]
        for each in status["streams"]
    ]
    assert tab.texts(".banner + .tiles dt") == [
        "Newest row",
        "Last success",
        "Requests left",
        "Available now",
        "Messages waiting",
    ]
    tops = tab.asks("[...document.querySelectorAll('.tiles div')].map((e) => e.getBoundingClientRect().top)")
    assert len(set(tops)) == 1


def rows(tab: Tab, place: str) -> list[list[str]]:
    """The cells of a table's rows."""
    found = tab.asks(
        f"[...document.querySelectorAll('{place} tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert isinstance(found, list)
    return found


def totals(tab: Tab, chart: str) -> dict[str, int]:
    """What the legend says of each series."""
    return {
        name.removesuffix(f" {total}"): int(total.replace(",", ""))
        for name in tab.texts(f"[data-picture={chart}] .key")
        if (total := name.rpartition(" ")[2])
    }


def test_the_charts_show_what_status_says(tab: Tab, written: Written) -> None:
    (status,) = written.status
    assert rows(tab, "[data-picture=quota]")[-1][1] == f"{status['requests_left']:,}"
    assert sum(totals(tab, "purposes").values()) == status["requests_used"]
    runs = totals(tab, "runs")
    assert runs["killed"] == 1
    assert sum(runs.values()) > 24 * 28
    (comments, missing, checks, _), nps = rows(tab, "[data-picture=missing]")
    assert (comments, nps[:2]) == ("comments", ["NPS", "0"])
    assert 4 <= int(missing) < int(checks) <= 18
    reasons = [cells[1] for cells in rows(tab, "[data-picture=excluded]")]
    assert reasons == [f"{count:,}" for count in status["excluded"].values()]


def test_every_chart_is_drawn_and_said_in_words(tab: Tab) -> None:
    assert tab.asks("[...document.querySelectorAll('figure')].map((e) => e.dataset.picture)") == CARDS
    for name in CHARTS:
        card = f"[data-picture={name}]"
        (title,), (caption,) = tab.texts(f"{card} h3"), tab.texts(f"{card} figcaption")
        assert caption.endswith(".")
        label = f"document.querySelector('{card} svg').getAttribute('aria-label')"
        assert tab.asks(label) == f"{title}: {caption}"
        # Bars are as high as their values, within the chart; the axis begins on the first day with one.
        bars = boxes(tab, f"{card} rect[class]:not(.day)")
        lines = boxes(tab, f"{card} polyline")
        values = [cell for _, *cells in rows(tab, card) for cell in cells if cell not in ("–", "0", "0.00")]
        assert len(bars) == (len(values) if not lines else 0)
        assert all(box["height"] > 0 and box["width"] > 0 for box in bars)
        (plot,) = boxes(tab, f"{card} .plot")
        assert all(box["top"] >= plot["top"] and box["bottom"] <= plot["bottom"] + 1 for box in bars + lines)
        assert min(box["left"] for box in bars + lines) < plot["left"] + 40
        assert max(box["right"] for box in bars + lines) > plot["right"] - 40
        # And pointing at a day names its values.
        days = len(rows(tab, card))
        assert len([text for text in tab.texts(f"{card} title") if ": nothing" not in text]) == days > 20


def boxes(tab: Tab, place: str) -> list[dict[str, float]]:
    found = tab.asks(
        f"[...document.querySelectorAll({json.dumps(place)})].map((e) => e.getBoundingClientRect().toJSON())"
    )
    assert isinstance(found, list)
    return found


def test_a_stream_has_the_same_colour_everywhere(tab: Tab) -> None:
    def colour_of(place: str, name: str) -> Any:
        return tab.asks(
            f"getComputedStyle([...document.querySelectorAll('{place} .key')]"
            f".find((e) => e.textContent.startsWith('{name}')), '::before').backgroundColor"
        )

    for name in ("NPS", "comments", "posts"):
        places = ("main > .scroll", "[data-picture=rows]", "[data-picture=purposes]")
        assert len({colour_of(place, name) for place in places}) == 1
    bar = "getComputedStyle(document.querySelector('[data-picture=rows] rect.stream-3')).fill"
    assert (
        tab.asks(bar) == colour_of("[data-picture=rows]", "NPS") != colour_of("[data-picture=rows]", "posts")
    )


def test_it_requests_nothing_from_the_network(tab: Tab, written: Written) -> None:
    assert tab.requested == [written.url]
    assert tab.complaints == []


def test_served_it_requests_nothing_more(browser: Chromium, written: Written) -> None:
    page = Page(written.file.read_bytes(), HTML)
    with closing(StatusServer("127.0.0.1:0", {"/": lambda: page})) as server:
        tab = browser.page(f"http://127.0.0.1:{server.port}/")
        assert boxes(tab, "[data-picture=rows] rect.stream-0")
        assert tab.complaints == []
        assert tab.requested == [f"http://127.0.0.1:{server.port}/"]


def test_it_may_not_use_the_network_or_run_anything(tab: Tab) -> None:
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
    for wanted in (dark, not dark):
        tab.media(dark=wanted)
        assert colour(tab, "color") == INK[wanted]
        paper = sum(colour(tab, "backgroundColor"))
        assert paper < 3 * 60 if wanted else paper > 3 * 240


def colour(tab: Tab, what: str) -> list[int]:
    found = tab.asks(f"getComputedStyle(document.body).{what}.match(/[0-9]+/g).slice(0, 3).map(Number)")
    assert isinstance(found, list)
    return found


def test_on_a_phone_it_fits_and_rows_are_stacked(browser: Chromium, written: Written) -> None:
    tab = browser.page(written.url, width=PHONE, height=740)
    assert tab.asks("innerWidth") == PHONE
    tab.asks("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert tab.asks("document.scrollingElement.scrollWidth") <= PHONE
    cut = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert tab.asks(cut) == 0
    for box in boxes(tab, "figure, .tiles, .banner, .plot, figcaption, td"):
        assert 0 <= box["left"] < box["right"] <= PHONE
    # Each value has its column's name.
    name = "getComputedStyle(document.querySelector('td'), '::before').content"
    assert tab.asks(name) == '"complete up to"'
    assert boxes(tab, "thead")[0]["height"] == 0


def test_on_paper_it_is_light_and_whole(browser: Chromium, many: Written) -> None:
    tab = browser.page(many.url, dark=True)
    assert tab.printed().startswith(b"%PDF")
    tab.media(dark=True, kind="print")
    assert colour(tab, "color") == INK[False]
    # What is closed on the screen, too.
    assert len([box for box in boxes(tab, ".plot") if box["height"] > 100]) == 4 * len(CHARTS)


def test_several_connections_have_an_overview_and_are_opened_by_hand(
    browser: Chromium, many: Written
) -> None:
    tab = browser.page(many.url)
    assert tab.texts("h2") == ["a", "b", "c", "d"]
    now = written_at(tab)
    assert rows(tab, ".banner + .scroll") == [
        [
            status["connection"],
            status["health"],
            ago(status["newest"], now),
            ago(status["last_success"], now),
            f"{status['requests_left']:,}",
            f"{int(status['requests_available'])}",
            "0",
        ]
        for status in many.status
    ]
    assert tab.texts(".banner strong")[0] == "4 connections: none needs attention."
    assert tab.asks("document.querySelectorAll('.connection[open]').length") == 0
    tab.asks("document.querySelector('a[href=\"#c\"]').click()")
    tab.until("document.querySelector('.connection[open] h2')?.textContent === 'c'")

"""The script for a page, from the documentation, with a made-up widget and a made-up analytics.js."""

import json
import re
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_views_and_clicks_are_sent_under_the_names_of_beamer_s_own_source(browser: Chromium) -> None:
    page = (ROOT / "docs" / "how-to" / "page-events.md").read_text(encoding="utf-8")
    script = re.search(r"<script>\n(.*?)</script>", page, re.DOTALL)
    assert script
    tab = browser.page("about:blank")
    tab.asks(
        "window.sent = []; window.analytics = { track: (...words) => sent.push(words) }; "
        f"window.beamer_config = {{ product_id: 'p' }}; (0, eval)({json.dumps(script[1])})"
    )
    assert tab.asks("[beamer_config.onopen(), beamer_config.onclick('https://example.com/a', true)]") == [
        True,
        True,
    ]
    assert tab.asks("sent") == [
        ["Post Viewed", {"origin": "Sidebar"}],
        ["Link Clicked", {"url": "https://example.com/a"}],
    ]
    assert tab.asks("beamer_config.product_id") == "p"

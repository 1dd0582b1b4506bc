"""The README is short; MkDocs' navigation has every page; the links work on a code host and in the site."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.docs.sections import PAGES, README, ROOT

DOCS = ROOT / "docs"
FILES = sorted(DOCS.rglob("*.md"))
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
# Pages that docs/hooks.py adds: they lie at the repository's top.
ADDED = {"index.md", "contributing/index.md", "explanation/security.md", "reference/changelog.md"}


def in_nav(part: Any) -> list[str]:
    """Return the pages of a part of the navigation, in order."""
    if isinstance(part, str):
        return [part]
    children = part.values() if isinstance(part, dict) else part
    return [page for child in children for page in in_nav(child)]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 250


def test_the_event_in_the_readme_has_the_form_of_those_that_are_sent() -> None:
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)[0])
    (sent,) = json.loads((ROOT / "tests/events/golden/comment.json").read_text(encoding="utf-8"))["batch"]
    assert shown["properties"].keys() == sent["properties"].keys() - {"beamer_connection"}
    assert shown["context"] == {"integration": sent["context"]["integration"]}


def test_every_page_is_in_the_navigation_once() -> None:
    pages = in_nav(SITE["nav"])
    assert sorted(pages) == sorted({str(file.relative_to(DOCS)) for file in FILES} | ADDED)


def test_the_site_fetches_nothing_from_another_host() -> None:
    assert SITE["theme"]["font"] is False
    assert not re.search(r"https?://", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    # Material loads Mermaid from another host.
    assert not any("```mermaid" in page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("page", FILES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_has_a_title_and_content(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert not any(line.startswith("# ") for line in outside_fences(lines[1:]))
    assert len(lines) >= 5, "a stub"


def outside_fences(lines: list[str]) -> list[str]:
    """Return the lines that are not part of a code block."""
    inside, kept = False, []
    for line in lines:
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            kept.append(line)
    return kept


def test_each_page_can_be_reached_by_links_from_the_readme() -> None:
    reached, new = {README}, [README]
    while new:
        page = new.pop()
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")):
            file = (page.parent / target).resolve()
            if file.suffix == ".md" and file.is_file() and file not in reached:
                reached.add(file)
                new.append(file)
    assert set(FILES) <= reached, set(FILES) - reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_list_or_table_begins_after_an_empty_line(page: Path) -> None:
    """Python-Markdown needs it, code hosts do not."""
    lines = outside_fences(page.read_text(encoding="utf-8").splitlines())
    for before, line in pairwise(lines):
        if re.match(r"(- |\d+\. |\|)", line):
            assert not before or re.match(r"(- |\d+\. |\||#| |<!--)", before), line

"""The tables of the README and of docs/ show what the code has."""

import ast
import importlib
import os
import pkgutil
import re
from collections.abc import Iterator

import pytest

import connector
from connector.beamer.streams import CATALOGUE
from connector.cli.exit_codes import WORST_FIRST
from connector.config import STREAMS
from connector.errors import ConnectorError, Exit
from connector.reporting.health import HEALTH
from tests.docs.sections import GENERATED, ROOT, pages_with, rewritten, rows, section

LEVELS = ("debug", "info", "warning", "error", "critical")


@pytest.mark.parametrize("name", GENERATED)
def test_a_section_made_from_the_code_is_up_to_date(name: str) -> None:
    content = GENERATED[name]()
    for page in pages_with(name):
        if os.environ.get("UPDATE_DOCS"):
            page.write_text(rewritten(name, page.read_text(encoding="utf-8"), content), encoding="utf-8")
        assert section(name, page) == content, "Run: UPDATE_DOCS=1 .venv/bin/python -m pytest tests/docs"


def test_every_stream_of_the_catalogue_can_be_configured() -> None:
    assert set(STREAMS) == set(CATALOGUE)


# --- exit codes -----------------------------------------------------------------------------------------


def test_every_exit_code_is_explained() -> None:
    explained = [int(code.strip("`")) for code, *_ in rows(section("exit codes"))]
    assert explained == sorted(int(code) for code in Exit)


def test_the_order_of_exit_codes_is_the_one_that_counts() -> None:
    order = ", ".join(map(str, WORST_FIRST))
    (page,) = pages_with("exit codes")
    assert f"in the order {order}." in page.read_text(encoding="utf-8")


def test_every_health_word_is_explained_in_order_with_its_exit_code() -> None:
    explained = [(word.strip("`"), code.strip("`")) for word, code, _ in rows(section("health words"))]
    assert explained == [(health.word, str(int(health.exit))) for health in HEALTH]


def test_troubleshooting_says_what_to_do_about_every_word_in_order() -> None:
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z ]+)` \|", page.partition("## `status` is not `healthy`")[2], re.MULTILINE)
    assert named == [health.word for health in HEALTH if health.word != "healthy"]


# --- error codes ----------------------------------------------------------------------------------------


def errors() -> Iterator[type[ConnectorError]]:
    """Every kind of error that any module of the connector knows."""
    for module in pkgutil.walk_packages(connector.__path__, "connector."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [ConnectorError]
    while found:
        error = found.pop()
        found += error.__subclasses__()
        if error.__module__.startswith("connector."):
            yield error


def test_every_error_code_is_explained_with_the_exit_code_it_ends_with() -> None:
    explained = {code.strip("`"): ends for code, ends, *_ in rows(section("error codes"))}
    kinds = list(errors())
    assert set(explained) == {kind.code for kind in kinds}
    for kind in kinds:
        if explained[kind.code] != "–":
            assert explained[kind.code] == str(int(kind.exit)), kind


def test_no_two_kinds_of_error_share_a_code() -> None:
    kinds = [kind for kind in errors() if "code" in vars(kind)]
    assert len({kind.code for kind in kinds}) == len(kinds)


# --- log events -----------------------------------------------------------------------------------------


def logged() -> Iterator[tuple[str, str]]:
    """Every `log.<level>("name", …)` in the code."""
    for file in sorted((ROOT / "connector").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                    args=[ast.Constant(value=str(name)), *_],
                ) if level in LEVELS:
                    yield name, level


def test_every_log_event_is_explained_with_its_level() -> None:
    explained = {(name.strip("`"), level) for name, level, *_ in rows(section("log events"))}
    assert explained == set(logged())

"""Texts for users use the words of the glossary, and none that they replace."""

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.sections import PAGES, ROOT, commands

# A pattern that no text for users may hold, and what to write.
INSTEAD = {
    r"(?:held|holds?|holding) back": "excluded",
    r"at hand": "available now",
    r"(?:ends?|ended|ending) with (?:code )?\d": "exits with code",
    r"ailments?": "problem",
    r"unusable|could not be used|of no use": "invalid; in quarantine",
    r"(?:the|a|an|this|no|one|each|every|its|own|same|new|empty|state|sqlite|postgresql) stores?": (
        "database; 'to store' is fine"
    ),
    r"collections?": "stream",
    r"sweeps?": "pass",
    r"agenda": "queue of probes",
    r"brood|below (?:a|the) (?:post|feature request)": "child list",
    r"(?:a|an|the|each|every|first|next|last|one|two) looks?": "check",
    r"unlooked|looked at": "checked",
    r"judged": "verdict",
    r"(?:an?|the|each|every|one|this|no|new|which) (?:records?|items?)|(?<!\.)items(?![(:])": "row",
    r"(?:a|the|each|every|one|waiting|refused) letters?": "message; dead letter",
    r"fenc(?:es?|ed|ing)(?! tokens?)": "lease, fencing token",
    r"doors?": "client",
    r"worth": "priority",
    r"(?:its|a|the) place in (?:a|the|its) (?:list|stream)": "cursor",
    r"(?:go|goes|going|went|gone) on": "continue",
    r"(?:begins?|made|makes?|found|settled) anew": "again",
    r"take (?:\w+ )?off|takes (?:\w+ )?off": "remove",
    r"not trusted": "untrusted",
    r"(?:is|was|until|be|are|being) told": "set, shown or known",
    r"(?:tells?|knows?|wants?|hears?|forgives?) (?:of|nothing|nobody|how|who|what|which|better)": "shows",
    r"somebody else spends|(?:quota|month) is gone": "used, used up",
    r"not to be had|at the least|of its own accord": "not available; at least; automatically",
}
# What a command prints says what users plan with; the pages may explain the table behind it.
ON_SCREEN = {r"ledgers?": "request budget, requests used"}

# Where such a phrase is right: a part of the text, or where it begins; the phrase; and why.
EXCEPTIONS: tuple[tuple[str, str, str], ...] = (
    ("the certificate", "not trusted", "a certificate is trusted or not; it has no counters"),
    ("config/airflow", "collections", "a module of Python"),
    ("CONTRIBUTING.md", "judged", "one of the eight questions; the file is called judging.py"),
)


def texts() -> Iterator[tuple[str, str]]:
    """Every text that a user reads, with where it is."""
    for page in (*PAGES, *_examples()):
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{page.relative_to(ROOT)}:{number}", line
    for path, context in commands():
        yield path, context.command.get_help(context)
    for file in sorted((ROOT / "connector").rglob("*.py")):
        yield from literals(file)


@cache
def every_text() -> tuple[tuple[str, str], ...]:
    return tuple(texts())


def _examples() -> Iterator[Path]:
    names = (path for path in (ROOT / "config").rglob("*") if path.is_file())
    yield from sorted(path for path in names if path.suffix != ".pyc")
    yield ROOT / "Dockerfile"


def literals(file: Path) -> Iterator[tuple[str, str]]:
    """The string literals of a module that hold more than one word, without its docstrings."""
    name, tree = file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield f"{name}:{node.lineno}", "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield f"{name}:{node.lineno}", node.value


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("phrase", [*INSTEAD, *ON_SCREEN])
def test_no_text_for_users_holds_a_word_that_the_glossary_replaces(phrase: str) -> None:
    screen = phrase in ON_SCREEN
    pattern = re.compile(rf"(?<![\w-])(?:{phrase})(?![\w-])", re.IGNORECASE)
    found = [
        f"{where}: {match[0]}: {text.strip()[:100]}"
        for where, text in every_text()
        if " " in text and (match := pattern.search(text)) and not _excepted(where, text, match[0])
        if not screen or where.startswith(("connector/", "beamer-segment", "docs/reference/commands"))
    ]
    assert found == [], f"Write: {({**INSTEAD, **ON_SCREEN})[phrase]}"


def _excepted(where: str, text: str, phrase: str) -> bool:
    return any(
        (where.startswith(begins) or begins in text) and phrase.lower() == wrong.lower()
        for begins, wrong, _ in EXCEPTIONS
    )


# --- numbers with what they count -----------------------------------------------------------------------

# A plural behind a number that may be one: `counted` writes "1 row".
PLURAL = re.compile(
    r" (?:[a-z]+ )?(?:requests|rows|streams|messages|events|lists|runs|connections|users|posts|pages|"
    r"problems|characters|months|hours|times|counters|variables|bytes)\b"
)


def numbers_before_plurals(file: Path) -> Iterator[str]:
    """Where an f-string puts a number directly before a plural; numbers with decimals are plurals always."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in itertools.pairwise(node.values):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                decimals = value.format_spec is not None and re.search(r"\.[1-9]|g", ast.unparse(value))
                found = PLURAL.match(str(text.value))
                if found and not decimals:
                    yield f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(value)}{found[0]}"


def test_a_number_agrees_with_what_it_counts() -> None:
    files = [file for file in sorted((ROOT / "connector").rglob("*.py")) if "sandbox" not in file.parts]
    assert [place for file in files for place in numbers_before_plurals(file)] == [], "Use text.counted"

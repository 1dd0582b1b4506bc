"""No name in the connector uses a term that the glossary replaced by another one."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import connector
from connector.reporting.metrics import METRICS
from connector.state.tables import PREFIX, metadata

PACKAGE = Path(connector.__file__).parent
# Of each replaced term its forms, and the word that is used.
REPLACED = {
    **dict.fromkeys(("sweep", "sweeps", "swept", "sweeping"), "pass"),
    **dict.fromkeys(("look", "looks", "looked", "unlooked"), "check"),
    **dict.fromkeys(("place", "places", "placed"), "cursor"),
    "agenda": "queue",
    **dict.fromkeys(("worth", "worths"), "priority"),
    **dict.fromkeys(("letter", "letters"), "message"),
    **dict.fromkeys(("fence", "fences", "fenced"), "lease, token"),
    "judged": "verdict",
    **dict.fromkeys(("below", "brood"), "child streams, child lists"),
    **dict.fromkeys(("collection", "collections"), "stream"),
    **dict.fromkeys(("record", "records", "item", "items"), "row"),
    "unusable": "invalid, quarantined",
    **dict.fromkeys(("ailment", "ailments"), "problem"),
    **dict.fromkeys(("door", "doors"), "client, api"),
    **dict.fromkeys(("store", "stores"), "database"),
    **dict.fromkeys(("told", "tell", "tells", "hear", "heard", "hears"), "a plain verb"),
    **dict.fromkeys(("ask", "asks", "asked"), "request"),
    **dict.fromkeys(("standing", "stirred", "blame", "forgive", "forgiven", "chronicle"), "a plain word"),
    "at_hand": "available",
    "held_back": "excluded",
}
# Names that may hold such a word: (pattern of the name, the files or kinds where, reason).
ALLOWED = (
    (r"new_?store", r"cli/|compose", "the option --new-store, which is public"),
    (r"_?dead_letters?", r".", "a message that Segment refused for good is a dead letter"),
    (r"letters?", r"reporting/rendering", "a letter of the alphabet, for each run"),
)
# Its words are those of the APIs that it plays, and it is not part of a deployment.
NOT_READ = "sandbox/"
# Locals and parameters that do not say what they hold.
VAGUE = frozenset({"each", "found", "here", "told"})

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def words(name: str) -> list[str]:
    """The words of a name, in lower case, from snake_case and from CamelCase."""
    return [word.lower() for word in WORD.findall(name)]


def replaced(name: str) -> list[str]:
    """The replaced terms in a name; a term of two words counts where they follow each other."""
    joined = f"_{'_'.join(words(name))}_"
    return [term for term in REPLACED if f"_{term}_" in joined]


def defined(tree: ast.AST) -> Iterator[str]:
    """What a module names: classes, functions, parameters, variables, attributes, aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def keys(tree: ast.AST) -> Iterator[str]:
    """What a module calls values that leave it: keys of dictionaries, and events of the log."""
    for node in ast.walk(tree):
        texts: Sequence[ast.expr | None] = ()
        if isinstance(node, ast.Dict):
            texts = node.keys
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            texts = node.args[:1]
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)
        for text in texts:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def locals_of(tree: ast.AST) -> Iterator[str]:
    """The parameters and variables of a module's functions."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda))
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def sources() -> Iterator[tuple[str, ast.Module]]:
    return ((name, tree) for name, tree in modules() if not name.startswith(NOT_READ))


def names() -> Iterator[tuple[str, str]]:
    """Every name of the connector, and where it is."""
    for where, tree in sources():
        yield where.removesuffix(".py").replace("/", "."), where
        yield from ((name, where) for name in defined(tree))
        yield from ((key, where) for key in keys(tree) if IDENTIFIER.fullmatch(key))
    for table in metadata.tables.values():
        yield table.name.removeprefix(PREFIX), "a table"
        yield from ((column.name, f"the table {table.name}") for column in table.columns)
    for metric in METRICS:
        yield from ((name, "a metric") for name in (metric.name, *metric.labels))


def is_allowed(name: str, where: str) -> bool:
    return any(re.fullmatch(what, name.lower()) and re.search(at, where) for what, at, _ in ALLOWED)


def test_no_name_uses_a_term_that_was_replaced() -> None:
    found = {
        f"{where}: {name} ({term}: {REPLACED[term]})"
        for name, where in names()
        for term in replaced(name)
        if not is_allowed(name, where)
    }
    assert not found, "\n".join(sorted(found))


def test_each_local_says_what_it_holds() -> None:
    found = {f"{where}: {name}" for where, tree in modules() for name in VAGUE.intersection(locals_of(tree))}
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def f(each): pass", {"each"}),
        ("def f():\n  for found in (): pass", {"found"}),
        ("f = lambda here: here", {"here"}),
        ("def f(): return [told for told in ()]", {"told"}),
        ("class C:\n  found: int", set()),
        ("def f(row): return row.found", set()),
    ],
)
def test_a_local_is_bound_in_a_function(code: str, names: set[str]) -> None:
    assert VAGUE & set(locals_of(ast.parse(code))) == names


def test_nothing_is_imported_under_another_name() -> None:
    found = {
        f"{where}: {alias.name} as {alias.asname}"
        for where, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert not found


def test_each_exception_is_needed() -> None:
    held = [(name, where) for name, where in names() if replaced(name)]
    for what, at, reason in ALLOWED:
        assert any(re.fullmatch(what, name.lower()) and re.search(at, where) for name, where in held), reason


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("Sweep", ["sweep"]),
        ("_list_sweep", ["sweep"]),
        ("SweptPage", ["swept"]),
        ("at_hand", ["at_hand"]),
        ("NOT_AT_HAND", ["at_hand"]),
        ("restored", []),
        ("lookback", []),
        ("StoreNewer", ["store"]),
        ("replaced", []),
    ],
)
def test_a_term_is_a_whole_word(name: str, terms: list[str]) -> None:
    assert replaced(name) == terms

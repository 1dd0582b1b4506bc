"""A run's state has one owner: only its own methods change it, and its report may be read by two threads."""

import ast
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.sync.report import Report

SYNC = Path(__file__).parents[2] / "connector" / "sync"
# Counters of the report are added to where something is counted.
REPORT = ("run", "report")


def chain(node: ast.expr) -> tuple[str, ...]:
    """The names of `self._run.progress.streams[name]`: run, progress, streams."""
    if isinstance(node, ast.Attribute):
        return (*chain(node.value), node.attr.lstrip("_"))
    if isinstance(node, ast.Subscript):
        return chain(node.value)
    return (node.id,) if isinstance(node, ast.Name) else ()


def changed(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """What is assigned to, or changed by a method of a mapping."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            mapping = node.func.attr in ("update", "setdefault", "pop", "clear", "append")
            targets = [node.func.value] if mapping else []
        for target in targets:
            names = tuple(name for name in chain(target) if name != "self")
            if len(names) > 1:
                yield names


def test_only_its_own_methods_change_the_state_of_a_run() -> None:
    others = [path for path in SYNC.rglob("*.py") if path.name != "context.py"]
    assert len(others) > 20
    found = [
        f"{path.relative_to(SYNC)}: {'.'.join(names)}"
        for path in others
        for names in changed(ast.parse(path.read_text()))
        if names[0] == "run" and names[:2] != REPORT
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("run.careful = True", ("run", "careful")),
        ("self._run.progress.streams[name] = state", ("run", "progress", "streams")),
        ("run.a, run.b = 1, 2", ("run", "a")),
        ("run.progress.parents[name].update(after)", ("run", "progress", "parents")),
    ],
)
def test_a_change_from_outside_is_noticed(code: str, names: tuple[str, ...]) -> None:
    assert names in changed(ast.parse(code))


def test_the_report_adds_up_while_other_threads_deliver() -> None:
    report, rounds, threads = Report(), 3_000, 3
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    backlogs = []

    def deliver() -> None:
        for _ in range(rounds):
            report.deliveries.confirmed(3, possible_doubles=1)
            report.deliveries.refused_one()
            report.deliveries.dropped(2)

    try:
        report.deliveries.set_waiting(10 * rounds)
        others = [threading.Thread(target=deliver) for _ in range(threads)]
        for other in others:
            other.start()
        for _ in range(rounds):
            report.count("comments", {"rows": 2, "events": 1})
            backlogs.append(report.backlog)
        for other in others:
            other.join()
    finally:
        sys.setswitchinterval(before)
    assert (report.sent, report.refused, report.possible_doubles) == (
        3 * rounds * threads,
        rounds * threads,
        rounds * threads,
    )
    assert report.waiting == 10 * rounds - 2 * rounds * threads
    assert report.backlog == rounds + report.waiting - report.sent - report.refused
    assert len(backlogs) == rounds

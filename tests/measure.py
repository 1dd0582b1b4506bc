"""`make measure`: how large the connector is, how its modules hang together, how long its functions are."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, quantiles

ROOT = Path(__file__).parents[1]
SMALL = 25


@dataclass(frozen=True, slots=True)
class Figures:
    """Of `connector/`: its modules and lines; by module its `imports` of others; by function its lines."""

    modules: int
    lines: int
    imports: dict[str, int]
    small: list[str]
    functions: dict[str, int]

    def __str__(self) -> str:
        lengths = sorted(self.functions.values())
        most = max(self.imports, key=lambda name: self.imports[name])
        longest = max(self.functions, key=lambda name: self.functions[name])
        return "\n".join(
            (
                f"modules: {self.modules}",
                f"lines: {self.lines:,}",
                f"internal imports a module: {mean(self.imports.values()):.1f}, "
                f"at most {self.imports[most]} ({most})",
                f"modules under {SMALL} lines: {', '.join(self.small) or 'none'}",
                f"lines of a function: median {median(lengths):.0f}, "
                f"90th percentile {quantiles(lengths, n=10)[-1]:.0f}, at most {lengths[-1]} ({longest})",
            )
        )


def measured(package: Path = ROOT / "connector") -> Figures:
    """Read every module of the package."""
    paths = sorted(package.rglob("*.py"))
    texts = {str(path.relative_to(package.parent)): path.read_text(encoding="utf-8") for path in paths}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    named = {name: text for name, text in texts.items() if not name.endswith(("__init__.py", "__main__.py"))}
    return Figures(
        len(texts),
        sum(len(text.splitlines()) for text in texts.values()),
        {name: len(set(_imported(trees[name], texts))) for name in named},
        [name for name, text in named.items() if len(text.splitlines()) < SMALL],
        {
            f"{name}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
            for name, tree in trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        },
    )


def _imported(tree: ast.Module, texts: dict[str, str]) -> Iterator[str]:
    """The modules of the package that a module imports, at its top or anywhere else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                path = f"{node.module}.{alias.name}".replace(".", "/") + ".py"
                whole = node.module.replace(".", "/") + ".py"
                yield from (found for found in (path, whole) if found in texts)


if __name__ == "__main__":
    sys.stdout.write(f"{measured()}\n")

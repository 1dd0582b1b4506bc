"""The parts of the pages that are made from the code, between `<!-- name -->` and `<!-- /name -->`.

`UPDATE_DOCS=1 python -m pytest tests/docs` writes them anew.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from connector.cli.app import app
from connector.config import known_settings
from connector.domain.budget import PLANS
from connector.reporting.metrics import METRICS
from connector.segment.events import EVENTS, markdown_table
from tests.benchmarks import quota_table
from tests.benchmarks.quota_accounts import ACCOUNTS, SEEDS
from tests.benchmarks.quota_family import WORLDS, world
from tests.benchmarks.quota_results import KEPT, Results
from tests.docs import moving
from tests.docs.json_schemas import FORMS, file_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
# What tells users how to work with the program; the others are for who works on it.
GUIDES = (README, *sorted((ROOT / "docs").rglob("*.md")))
PAGES = (*GUIDES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")))

Cells = tuple[str, ...]


def pages_with(name: str) -> list[Path]:
    """The pages that have a marked section: one, or two that show the same."""
    pages = [page for page in GUIDES if f"<!-- {name} -->" in page.read_text(encoding="utf-8")]
    assert pages, f"no page has a section <!-- {name} --> … <!-- /{name} -->"
    return pages


def section(name: str, page: Path | None = None) -> str:
    """What stands in a marked section, without the empty lines around it."""
    text = (page or pages_with(name)[0]).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n+(.*?)\n*<!-- /{name} -->", text, re.DOTALL)
    assert found, f"the section {name} has no end"
    return found[1]


def rewritten(name: str, text: str, content: str) -> str:
    """The text with a marked section's content replaced."""
    old = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return old.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def rows(section: str) -> list[Cells]:
    """The rows of a Markdown table, its head left out."""
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]


def table(head: Cells, lines: Iterator[Cells]) -> str:
    shown = [head, ("---",) * len(head), *(tuple(_cell(cell) for cell in line) for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- the command line -----------------------------------------------------------------------------------


def commands(command: Any = None, parent: Any = None) -> Iterator[tuple[str, Any]]:
    """Every command below the given one with a context of its own, groups before what is in them."""
    command = command or get_command(app)
    name = command.name if parent else "beamer-segment"
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=90, **command.context_settings
    )
    yield context.command_path, context
    for name in getattr(command, "commands", {}):
        _, each, _ = command.resolve_command(context, [name])
        yield from commands(each, context)


def helps() -> str:
    """Each command with what it does; its whole help unfolds."""
    return "\n\n".join(_help(path, context) for path, context in commands())


def _help(path: str, context: Any) -> str:
    first, *_ = (context.command.help or "").split("\n\n")
    # A line break in a help text is no end of a paragraph.
    says = " ".join(first.replace("\b", "").split())
    whole = context.command.get_help(context).rstrip()
    unfolds = (
        f"<details markdown='1'><summary>All of its help</summary>\n\n```text\n{whole}\n```\n\n</details>"
    )
    return f"## `{path}`\n\n{says}\n\n{unfolds}"


# --- settings, plans, costs -----------------------------------------------------------------------------


def settings() -> str:
    head = ("variable", "key in TOML", "takes", "default", "what it is for")
    lines = (
        (f"`{each.environment}`", _key(each.toml), each.type, _default(each.default), each.description)
        for each in known_settings()
    )
    return table(head, lines)


def _key(toml: str) -> str:
    return ", ".join(f"`{key}`" for key in toml.split(", ")) if toml else "–"


def _default(text: str) -> str:
    return text if text == "not set" else f"`{text.replace(',', ', ')}`"


def plans() -> str:
    head = ("`BEAMER_PLAN`", "requests a month", "a second", "beyond that", "source of the figures")
    lines = (
        (
            f"`{plan.name}`",
            f"{plan.monthly_requests:,}" if plan.monthly_requests else "no limit",
            str(plan.requests_per_second),
            "billed" if plan.overage_billed else "refused" if plan.monthly_requests else "–",
            plan.source,
        )
        for plan in PLANS.values()
    )
    return table(head, lines)


def metrics() -> str:
    head = ("metric", "labels", "what it says")
    told = (
        (
            f"`{each.full_name}`",
            ", ".join(each.labels) or "–",
            each.help + (" (`schedule` only)" if each.only else ""),
        )
        for each in METRICS
    )
    return table(head, told)


def event_samples() -> str:
    """Each event as the golden files of tests/events have it."""
    return "\n\n".join(f"### {event.name}\n\n```json\n{_sample(kind)}\n```" for kind, event in EVENTS.items())


def _sample(kind: str) -> str:
    file = ROOT / "tests/events/golden" / f"{kind}.json"
    (message,) = json.loads(file.read_text(encoding="utf-8"))["batch"]
    del message["context"]["library"]
    return json.dumps(message, indent=2, ensure_ascii=False)


def json_commands() -> str:
    """Each command with the keys that it adds, and its schema."""
    lines = (
        (
            f"`{command}`",
            ", ".join(dict.fromkeys(f"`{key}`" for form in forms for key in form)),
            f"[{file_of(command).name}](json/{file_of(command).name})",
        )
        for command, forms in FORMS.items()
    )
    return table(("command", "keys", "schema"), lines)


GENERATED: Mapping[str, Callable[[], str]] = {
    "events": lambda: markdown_table().rstrip(),
    "event samples": event_samples,
    "moving": lambda: table(moving.HEAD, moving.compared()),
    "plans": plans,
    "settings": settings,
    "help": helps,
    "json commands": json_commands,
    "metrics": metrics,
    "quota months": lambda: quota_table.markdown(ACCOUNTS.values(), Results(KEPT), SEEDS),
    "quota worlds": lambda: quota_table.worlds([world(number) for number in WORLDS], Results(KEPT)),
}

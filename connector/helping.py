"""`--help` in groups, as plain text: rich would take longer to load than most commands to run."""

from itertools import groupby
from typing import Any

from typer.core import TyperGroup


class Grouped(TyperGroup):
    """Lists commands under the heading of their panel, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = [command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        width = formatter.width - 6 - max(len(str(command.name)) for command in listed)
        listed.sort(key=lambda command: ORDER.index(_panel(command)))
        for panel, commands in groupby(listed, key=_panel):
            with formatter.section(panel):
                formatter.write_dl([(str(each.name), each.get_short_help_str(width)) for each in commands])

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as click calls it
        return list(self.commands)


EVERYDAY, MORE, TRY = "Everyday", "The rest", "Try it"
ORDER = (EVERYDAY, TRY, MORE, "Commands")


def _panel(command: Any) -> str:
    found = getattr(command, "rich_help_panel", None)
    return found if isinstance(found, str) else "Commands"

"""The catalogue for people: the README's table, and the same as rows for a terminal."""

from collections.abc import Iterator

from connector.segment.events import EVENTS, EVERYWHERE, Property

HEAD = ("event", "when", "property", "type", "meaning", "example", "in Beamer's own source")
Cells = tuple[str, ...]


def listed() -> Iterator[Cells]:
    """One row of cells per property, the event named in each."""
    for event in EVENTS.values():
        yield from (_cells(event.name, event.when, p) for p in event.properties)
    yield from (_cells("any event", "only where it applies", p) for p in EVERYWHERE)


def _cells(name: str, when: str, p: Property) -> Cells:
    kind = f"{p.type} or null" if p.nullable else p.type
    return (name, when, p.name, kind, p.meaning, p.example, "yes" if p.in_beamers_source else "")


def markdown_table() -> str:
    """The catalogue for the README; an event is named in its first line only."""
    lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
    before = ""
    for name, when, prop, kind, meaning, example, own in listed():
        head = ("", "") if name == before else (f"**{name}**", when)
        lines.append(_line((*head, f"`{prop}`", kind, meaning, f"`{example}`", own)))
        before = name
    return "\n".join(lines) + "\n"


def _line(cells: Cells) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""The Dockerfile, read as data: enough of it for what ours says."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of it, continuations joined."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        return self.rest.split()

    @property
    def listed(self) -> Any:
        """What stands in the JSON form."""
        return json.loads(self.rest[self.rest.index("[") :])


def instructions(text: str) -> list[Instruction]:
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", bare).splitlines()
    found = (line.partition(" ") for line in lines if line.strip())
    return [Instruction(name, rest.strip()) for name, _, rest in found]


def dockerfile() -> list[Instruction]:
    return instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, FROM first."""
    found: list[list[Instruction]] = []
    for each in dockerfile():
        if each.name == "FROM":
            found.append([])
        found[-1].append(each)
    return found


def only(name: str) -> Instruction:
    """The last stage's one instruction of that name."""
    (found,) = (each for each in stages()[-1] if each.name == name)
    return found


def context() -> list[str]:
    """What .dockerignore lets into the build: names at the top of the repository."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is kept out that is not named"
    return [rule.removeprefix("!") for rule in rules if rule.startswith("!")]

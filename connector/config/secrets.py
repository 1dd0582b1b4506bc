"""Fetching secrets from where they are said to be."""

from collections.abc import Mapping
from pathlib import Path

from connector.config.given import Given, Problem, SecretAt, expanded, is_variable_name, reason
from connector.config.values import quoted


def fetch(
    given: Given, variables: Mapping[str, Given], required: bool, problems: list[Problem]
) -> Given | None:
    """The secret that `given` points at; anything else as it is."""
    at = given.value
    if not isinstance(at, SecretAt):
        return given
    if at.kind == "file":
        return _from_file(given, at, problems)
    if at.where in variables:
        variable = variables[at.where]
        label = f"{at.where}, named by {given.label}"
        return Given(variable.value.strip(), variable.source, label, at.where)
    if required:
        problems.append(_unset(given, at.where))
    return None


def file_at(where: str, beside: Path = Path()) -> SecretAt:
    """A file with a secret; its path is shown if it surely is one and not the key itself."""
    path = expanded(where)
    return SecretAt("file", str(beside / path), str(path) if path.is_absolute() else quoted(where))


def _unset(given: Given, where: str) -> Problem:
    if is_variable_name(where):
        return Problem(f"The variable {where} is not set, but is named by {given.label}.", f"Set {where}.")
    return Problem(
        f"The variable named by {given.label} is not set.",
        "It takes the NAME of a variable, not the key itself.",
    )


def _from_file(given: Given, at: SecretAt, problems: list[Problem]) -> Given | None:
    path = Path(at.where)
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        problems.append(Problem(f"{given.label}: the file {at.shown} cannot be read: {reason(error)}."))
        return None
    if not text:
        problems.append(Problem(f"{given.label}: the file {at.shown} is empty."))
        return None
    return Given(text, str(path), given.label, str(path))

"""Settings in TOML files."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connector.config.sources import (
    CONNECTION,
    EVERY,
    SECRET,
    Given,
    Layer,
    SecretAt,
    SettingProblem,
    did_you_mean,
    file_at,
    reason,
)
from connector.config.values import quoted


@dataclass(frozen=True, slots=True)
class Table:
    """One of `[[connections]]`, and where it stands, for errors."""

    keys: Layer
    where: str


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file, or a directory of them taken together."""

    common: Layer = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)

    def named_variables(self) -> set[str]:
        """The environment variables that hold secrets by its wish."""
        layers = [self.common, *(table.keys for table in self.tables)]
        given = [given.value for layer in layers for given in layer.values()]
        return {value.where for value in given if isinstance(value, SecretAt) and value.kind == "variable"}


def read_toml(path: Path | None, problems: list[SettingProblem]) -> Document:
    """The keys of a file, or of every *.toml of a directory, which then are one configuration."""
    document = Document()
    for file in _files(path, problems) if path else []:
        _add_file(document, file, _toml(file, problems), problems)
    return document


def _files(path: Path, problems: list[SettingProblem]) -> list[Path]:
    """`is_dir` may raise, for a name too long as well as for a parent that may not be entered."""
    try:
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    except OSError as error:
        problems.append(_unreadable(path, error))
        return []
    if not files:
        problems.append(SettingProblem(f"The directory {path} has no *.toml file in it.", fatal=True))
    return files


def _unreadable(path: Path, error: OSError | ValueError) -> SettingProblem:
    return SettingProblem(f"The configuration file {path} cannot be read: {reason(error)}.", fatal=True)


def _toml(file: Path, problems: list[SettingProblem]) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        problems.append(SettingProblem(f"{file} is not valid TOML: {_toml_reason(error)}.", fatal=True))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(_unreadable(file, error))
    return {}


def _toml_reason(error: tomllib.TOMLDecodeError) -> str:
    """Line and column only: newer Pythons may quote the line, which may hold a key."""
    position = re.search(r"at (line \d+, column \d+|end of document)", str(error))
    return f"look at {position[1]}" if position else "its syntax"


def _add_file(
    document: Document, file: Path, content: dict[str, Any], problems: list[SettingProblem]
) -> None:
    tables = content.pop("connections", [])
    common = _layer(content, file, "", EVERY, problems)
    for key in common.keys() & document.common.keys():
        first = document.common[key].source
        problems.append(SettingProblem(f"{common[key].label} is also set in {first}.", "Keep one of them."))
    document.common.update(common)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(
            SettingProblem(f"{file}: connections is not a list of tables.", "Write [[connections]].")
        )
        return
    for number, table in enumerate(tables, start=1):
        document.tables.append(_connection(table, number, file, problems))


def _connection(table: dict[str, Any], number: int, file: Path, problems: list[SettingProblem]) -> Table:
    name = table.get("name")
    where = f" of [[connections]] number {number}" + (f" ({quoted(name)})" if isinstance(name, str) else "")
    if name is None:
        problems.append(
            SettingProblem(f"{file}: [[connections]] number {number} has no name.", 'Add name = "…".')
        )
    keys = _layer(table, file, where, {**CONNECTION, "name": None}, problems)
    return Table(keys, f"{where} in {file}")


def _layer(
    table: dict[str, Any], file: Path, where: str, known: Mapping[str, object], problems: list[SettingProblem]
) -> Layer:
    """The keys of one table; `api_key_env` and `api_key_file` become the `api_key` that they point at."""
    found: Layer = {}
    pointers = {f"{key}_{end}" for key in SECRET if key in known for end in ("env", "file")}
    for key, value in table.items():
        label = f"{key}{where} in {file}"
        plain, secret = key, value
        if key in pointers:
            plain, _, kind = key.rpartition("_")
            secret = _pointer(kind, value, file)
        elif key not in known:
            problems.append(_unknown(key, where, file, {*known, *pointers}))
            continue
        elif key in SECRET and not _harmless(key, value):
            problems.append(_inline(label, key))
            secret = None
        if plain in found:
            problems.append(SettingProblem(f"{label}: {plain} is set twice.", "Keep one of them."))
        found[plain] = Given(secret, str(file), label)
    return found


def _unknown(key: str, where: str, file: Path, known: set[str]) -> SettingProblem:
    if key in EVERY:
        return SettingProblem(
            f"{file}: {key}{where} does not belong to a connection.", "Put it above the tables."
        )
    todo = did_you_mean(key, known) or "`beamer-segment config show` lists the settings."
    return SettingProblem(f"{file}: {quoted(key)}{where} is not a setting.", todo)


def _pointer(kind: str, value: object, file: Path) -> SecretAt:
    if kind == "env":
        return SecretAt("variable", str(value))
    return file_at(str(value), file.parent)


def _harmless(key: str, value: object) -> bool:
    """A database URL may stand in the file as long as no password is in it."""
    text = str(value).lower()
    return key == "database_url" and "@" not in text and "password" not in text


def _inline(label: str, key: str) -> SettingProblem:
    return SettingProblem(
        f"{label}: a secret must not be in this file, which may be copied, shared and committed.",
        f'Name a variable instead: {key}_env = "{SECRET[key].environment}"; or a file: {key}_file = "/path".',
    )

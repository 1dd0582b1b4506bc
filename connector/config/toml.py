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
    Entry,
    Layer,
    Problems,
    SecretAt,
    did_you_mean,
    file_at,
    reason,
)
from connector.config.values import quoted


@dataclass(frozen=True, slots=True)
class Table:
    """One table of `[[connections]]`, and its location, for errors."""

    keys: Layer
    where: str


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file, or all files of a directory as one."""

    common: Layer = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)

    def named_variables(self) -> set[str]:
        """Return the environment variables that it names as holders of secrets."""
        layers = [self.common, *(table.keys for table in self.tables)]
        values = [entry.value for layer in layers for entry in layer.values()]
        return {value.where for value in values if isinstance(value, SecretAt) and value.kind == "variable"}


def read_toml(path: Path | None, problems: Problems) -> Document:
    """Return the keys of a file, or of every *.toml of a directory, which together are one configuration."""
    document = Document()
    for file in _files(path, problems) if path else []:
        _add_file(document, file, _content(file, problems), problems)
    return document


def _files(path: Path, problems: Problems) -> list[Path]:
    try:
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    except OSError as error:  # a name that is too long, a folder that may not be entered
        _add_unreadable(path, error, problems)
        return []
    if not files:
        problems.add(f"The directory {path} has no *.toml file in it.", fatal=True)
    return files


def _add_unreadable(path: Path, error: OSError | ValueError, problems: Problems) -> None:
    problems.add(f"The configuration file {path} cannot be read: {reason(error)}.", fatal=True)


def _content(file: Path, problems: Problems) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        # Line and column only: newer Pythons may quote the line, which may hold a key.
        position = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        where = f"look at {position[1]}" if position else "its syntax"
        problems.add(f"{file} is not valid TOML: {where}.", fatal=True)
    except (OSError, UnicodeDecodeError) as error:
        _add_unreadable(file, error, problems)
    return {}


def _add_file(document: Document, file: Path, content: dict[str, Any], problems: Problems) -> None:
    tables = content.pop("connections", [])
    common = _layer(content, file, "", EVERY, problems)
    for key in common.keys() & document.common.keys():
        first = document.common[key].source
        problems.add(f"{common[key].label} is also set in {first}.", "Keep one of them.")
    document.common.update(common)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.add(f"{file}: connections is not a list of tables.", "Write [[connections]].")
        return
    for number, table in enumerate(tables, start=1):
        name, where = table.get("name"), f"[[connections]] number {number}"
        if name is None:
            problems.add(f"{file}: {where} has no name.", 'Add name = "…".')
        where = f" of {where}" + (f" ({quoted(name)})" if isinstance(name, str) else "")
        keys = _layer(table, file, where, {**CONNECTION, "name": None}, problems)
        document.tables.append(Table(keys, f"{where} in {file}"))


def _layer(
    table: dict[str, Any], file: Path, where: str, known: Mapping[str, object], problems: Problems
) -> Layer:
    """Return the keys of one table; `api_key_env` and `api_key_file` become the `api_key` that they name."""
    layer: Layer = {}
    pointers = {f"{key}_{end}" for key in SECRET if key in known for end in ("env", "file")}
    for key, value in table.items():
        label = f"{key}{where} in {file}"
        field_name, content = key, value
        if key in pointers:
            field_name, _, kind = key.rpartition("_")
            text = str(value)
            content = SecretAt("variable", text) if kind == "env" else file_at(text, file.parent)
        elif key not in known:
            _add_unknown(key, where, file, {*known, *pointers}, problems)
            continue
        elif key in SECRET and not _harmless(key, value):
            what = f"{label}: a secret must not be in this file, which may be copied, shared and committed."
            variable = f'{key}_env = "{SECRET[key].environment}"'
            problems.add(what, f'Name a variable instead: {variable}; or a file: {key}_file = "/path".')
            content = None
        if field_name in layer:
            problems.add(f"{label}: {field_name} is set twice.", "Keep one of them.")
        layer[field_name] = Entry(content, str(file), label)
    return layer


def _add_unknown(key: str, where: str, file: Path, known: set[str], problems: Problems) -> None:
    if key in EVERY:
        problems.add(f"{file}: {key}{where} does not belong to a connection.", "Put it above the tables.")
    else:
        todo = did_you_mean(key, known) or "`beamer-segment config show` lists the settings."
        problems.add(f"{file}: {quoted(key)}{where} is not a setting.", todo)


def _harmless(key: str, value: object) -> bool:
    """Return whether this is a database URL without a password, which may be in the file."""
    text = str(value).lower()
    return key == "database_url" and "@" not in text and "password" not in text

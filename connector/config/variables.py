"""Reading the environment and the env file."""

import io
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from connector.config.given import (
    EVERY,
    NAMES,
    SECRET,
    Given,
    Layer,
    Problem,
    did_you_mean,
    is_variable_name,
    reason,
)
from connector.config.secrets import file_at
from connector.config.values import nearest

_PREFIXES = ("BEAMER_", "SEGMENT_", "CONNECTOR_")
_TYPO = 0.8


def from_variables(variables: Mapping[str, str], source: str, problems: list[Problem]) -> Layer:
    """The settings among environment variables; an empty variable counts as not set."""
    found: Layer = {}
    for key, setting in EVERY.items():
        name, file_name = setting.environment, f"{setting.environment}_FILE"
        value, file = variables.get(name, "").strip(), variables.get(file_name, "").strip()
        if setting.secret and value and file:
            problems.append(Problem(f"{name} and {file_name} are both set.", "Keep one of them."))
            found[key] = Given(None, source, name)
        elif setting.secret and file:
            found[key] = Given(file_at(file), source, file_name)
        elif value:
            found[key] = Given(value, source, name)
    return found


def env_file_variables(path: Path | None, problems: list[Problem]) -> dict[str, str]:
    """The variables of an env file, which nobody else may be able to read."""
    if path is None:
        return {}
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(f"The env file {path} cannot be read: {reason(error)}.", fatal=True))
        return {}
    if os.name == "posix" and mode & 0o077:
        what = f"Others may read the env file {path}, which holds keys."
        problems.append(Problem(what, f"Run: chmod 600 {shlex.quote(str(path))}", fatal=True))
        return {}
    return _parsed_env_file(path, text, problems)


def _parsed_env_file(path: Path, text: str, problems: list[Problem]) -> dict[str, str]:
    """Read by python-dotenv's parser rather than its `dotenv_values`, which only logs a bad line."""
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        where = f"{path}, line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(Problem(f"{where}: this is not KEY=VALUE."))
        elif binding.key in found:
            problems.append(Problem(f"{where}: {_shown(binding.key)} is set a second time."))
        elif binding.key is not None:
            found[binding.key] = binding.value or ""
    return found


def judge_env_file_names(
    path: Path | None, names: Iterable[str], named: set[str], problems: list[Problem]
) -> None:
    """In a file of ours every name must be known; `named` are those that a TOML file asks for."""
    known = NAMES | named
    for name in names:
        if name not in known:
            todo = did_you_mean(name, NAMES) or "An env file holds this program's own settings only."
            problems.append(Problem(f"{path}: {_shown(name)} is no setting.", todo))


def judge_environment_names(
    environ: Mapping[str, str], named: set[str], problems: list[Problem]
) -> list[str]:
    """Names that look like ours: a near miss is a problem, others are another program's, and returned."""
    known, ignored = NAMES | named, []
    for name in sorted(environ):
        if name in known or not name.upper().startswith(_PREFIXES) or not environ[name].strip():
            continue
        meant = nearest(name.upper(), NAMES, _TYPO)
        if meant and not _another_key(name):
            problems.append(Problem(f"{name} is no setting.", f"Did you mean {meant}?"))
        else:
            ignored.append(name)
    return ignored


def _another_key(name: str) -> bool:
    """BEAMER_API_KEY_EU may well belong to a configuration file that is not used now."""
    return any(name.startswith(f"{setting.environment}_") for setting in SECRET.values())


def _shown(name: str | None) -> str:
    """A name for an error, unless it may be a key on a line of its own (base64 ends with '=')."""
    return name if name and is_variable_name(name) else "a name"

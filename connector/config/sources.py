"""Where settings come from: variables, env files, mounted secrets; unknown variables are refused."""

import io
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import parse_stream

from connector.config.connection import Connection
from connector.config.setting import Setting
from connector.config.settings import Settings
from connector.config.values import nearest, quoted

CONFIG_VARIABLE = "CONNECTOR_CONFIG"
CONNECTION = Connection.settings()
GLOBAL = Settings.settings()
EVERY: Mapping[str, Setting] = {**CONNECTION, **GLOBAL}
SECRET = {key: setting for key, setting in EVERY.items() if setting.secret}
NAMES = frozenset(
    [setting.environment for setting in EVERY.values()]
    + [f"{setting.environment}_FILE" for setting in SECRET.values()]
    + [CONFIG_VARIABLE]
)
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One thing that is wrong, and what to do about it.

    Where a file could not be read (`fatal`), other problems only follow from it.
    """

    what: str
    todo: str = ""
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class SecretAt:
    """A secret that is yet to be fetched, so that one that is overridden need not be there."""

    kind: Literal["file", "variable"]
    where: str = field(repr=False)
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A value with its source (for `config show`) and its name there (for errors).

    `holder` is the variable or file that a secret was fetched from.
    """

    value: Any = field(repr=False)
    source: str
    label: str
    holder: str = ""


Layer = dict[str, Given]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint, or nothing."""
    meant = nearest(word, known)
    return f"Did you mean {meant}?" if meant else ""


def is_variable_name(text: str) -> bool:
    """Whether this is surely a variable's name and not a key that was put in its place."""
    return bool(_VARIABLE_NAME.fullmatch(text))


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read."""
    return (error.strerror or "unreadable") if isinstance(error, OSError) else "it is not UTF-8 text"


def expanded(text: str) -> Path:
    """A path with `~` resolved where there is a home to resolve it to."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


# A Beamer key begins with b_; others are long and mix letters and figures. A URL may hold a password.
_LIKE_A_KEY = re.compile(r"b_.*|.*[=@:].*|(?=.*\d)(?=.*[A-Za-z])[\w+-]{12,}")


def fetch(
    given: Given, variables: Mapping[str, Given], required: bool, problems: list[SettingProblem]
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
    shown = str(path) if path.is_absolute() else quoted(where)
    return SecretAt("file", str(beside / path), shown if _surely_a_path(where, beside / path) else "")


def _surely_a_path(text: str, path: Path) -> bool:
    """Whether nothing of it but what is there looks like a key; a bare word without a suffix may be one."""
    if _is_there(path):
        return True
    if "/" not in text and "." not in text:
        return False
    ancestors = [each for each in path.absolute().parents if _is_there(each)]
    missing = path.absolute().relative_to(ancestors[0]) if ancestors else path
    return not any(_LIKE_A_KEY.fullmatch(part) for part in missing.parts)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _unset(given: Given, where: str) -> SettingProblem:
    if is_variable_name(where):
        return SettingProblem(
            f"The variable {where} is not set, but is named by {given.label}.", f"Set {where}."
        )
    return SettingProblem(
        f"The variable named by {given.label} is not set.",
        "It takes the NAME of a variable, not the key itself.",
    )


def _from_file(given: Given, at: SecretAt, problems: list[SettingProblem]) -> Given | None:
    path, what = Path(at.where), f"the file {at.shown}" if at.shown else "the file that it names"
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        todo = "" if at.shown else "It takes the path of a file that holds the key, not the key itself."
        problems.append(SettingProblem(f"{given.label}: {what} cannot be read: {reason(error)}.", todo))
        return None
    if not text:
        problems.append(SettingProblem(f"{given.label}: {what} is empty."))
        return None
    return Given(text, str(path), given.label, str(path))


PREFIXES = ("BEAMER_", "SEGMENT_", "CONNECTOR_")

# What Kubernetes sets in every pod for each Service of the namespace.
_SERVICE = re.compile(r".+_SERVICE_(HOST|PORT(_\w+)?)")
# What Docker's links set, and Kubernetes in their form.
_LINKED_PORT = re.compile(
    r".+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR)|_(START|END)(_(PORT|PROTO|ADDR))?)?"
)
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")
_LINK_NAME = re.compile(r"/[^/\s]+/[^/\s]+")

# Where the spelling of a name leads elsewhere than its meaning: the name without its prefix.
_MEANT = {
    "US": "SEGMENT_REGION=us",
    "EU": "SEGMENT_REGION=eu",
    "DATA_RESIDENCY": "SEGMENT_REGION",
    "LIMIT": "BEAMER_MONTHLY_REQUESTS",
    "MONTHLY_LIMIT": "BEAMER_MONTHLY_REQUESTS",
    "MONTHLY_QUOTA": "BEAMER_MONTHLY_REQUESTS",
    "QUOTA": "BEAMER_MONTHLY_REQUESTS",
    "REQUESTS": "BEAMER_MONTHLY_REQUESTS",
    "MAX_REQUESTS": "BEAMER_MONTHLY_REQUESTS",
    "RATE": "BEAMER_REQUESTS_PER_SECOND",
    "RATE_LIMIT": "BEAMER_REQUESTS_PER_SECOND",
    "RPS": "BEAMER_REQUESTS_PER_SECOND",
    "SINCE": "BEAMER_START_DATE",
    "FROM": "BEAMER_START_DATE",
    "START": "BEAMER_START_DATE",
    "BACKFILL_SINCE": "BEAMER_START_DATE",
    "DB": "DATABASE_URL",
    "DB_URL": "DATABASE_URL",
    "DATABASE": "DATABASE_URL",
    "DATABASE_URI": "DATABASE_URL",
    "STATE": "DATABASE_URL",
    "LOG": "LOG_LEVEL",
    "DEBUG": "LOG_LEVEL=debug",
    "VERBOSE": "LOG_LEVEL=debug",
    "PORT": "CONNECTOR_BIND",
    "ENV_FILE": "the option --env-file",
    "DRY_RUN": "the option --dry-run",
    "BEAMER_KEY": "BEAMER_API_KEY",
    "BEAMER_TOKEN": "BEAMER_API_KEY",
    "BEAMER_API_TOKEN": "BEAMER_API_KEY",
    "BEAMER_URL": "BEAMER_BASE_URL",
    "BEAMER_HOST": "BEAMER_BASE_URL",
    "BEAMER_ENDPOINT": "BEAMER_BASE_URL",
    "SEGMENT_KEY": "SEGMENT_WRITE_KEY",
    "SEGMENT_TOKEN": "SEGMENT_WRITE_KEY",
    "SEGMENT_API_KEY": "SEGMENT_WRITE_KEY",
    "SEGMENT_URL": "SEGMENT_HOST",
    "SEGMENT_API_URL": "SEGMENT_HOST",
    "SEGMENT_BASE_URL": "SEGMENT_HOST",
    "SEGMENT_ENDPOINT": "SEGMENT_HOST",
}
# A name under the right prefix is the nearer one of two that are spelt alike.
_SAME_PREFIX = 0.05


def is_link(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker set this variable for a service or container that is called like us."""
    return bool(
        _SERVICE.fullmatch(name)
        or _LINKED_PORT.fullmatch(name)
        or (name.endswith("_PORT") and _LINK_ADDRESS.fullmatch(value))
        or (name.endswith("_NAME") and _LINK_NAME.fullmatch(value))
        or ("_ENV_" in name and meant(name) not in _OPTIONS)
    )


def meant(name: str) -> str:
    """Return the setting with the most similar name."""
    upper = name.upper()
    _, rest = _parted(upper)
    if found := _MEANT.get(upper) or _MEANT.get(rest):
        return found
    return max(sorted(NAMES), key=lambda known: _likeness(upper, known))


_OPTIONS = frozenset(each for each in _MEANT.values() if each.startswith("the option"))


def _parted(name: str) -> tuple[str, str]:
    prefix = next((each for each in PREFIXES if name.startswith(each)), "")
    return prefix, name.removeprefix(prefix)


def _likeness(name: str, known: str) -> float:
    """How alike two names are without their prefixes: BEAMER_REGION is SEGMENT_REGION."""
    (prefix, rest), (known_prefix, known_rest) = _parted(name), _parted(known)
    return SequenceMatcher(None, rest, known_rest).ratio() + _SAME_PREFIX * (prefix == known_prefix)


def from_variables(variables: Mapping[str, str], source: str, problems: list[SettingProblem]) -> Layer:
    """The settings among environment variables; an empty variable counts as not set."""
    found: Layer = {}
    for key, setting in EVERY.items():
        name, file_name = setting.environment, f"{setting.environment}_FILE"
        value, file = variables.get(name, "").strip(), variables.get(file_name, "").strip()
        if setting.secret and value and file:
            problems.append(SettingProblem(f"{name} and {file_name} are both set.", "Keep one of them."))
            found[key] = Given(None, source, name)
        elif setting.secret and file:
            found[key] = Given(file_at(file), source, file_name)
        elif value:
            found[key] = Given(value, source, name)
    return found


def env_file_variables(path: Path | None, problems: list[SettingProblem]) -> dict[str, str]:
    """Return the variables of an env file; refuse a file that others may read."""
    if path is None:
        return {}
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(SettingProblem(f"The env file {path} cannot be read: {reason(error)}.", fatal=True))
        return {}
    if os.name == "posix" and mode & 0o077:
        what = f"Other users may read the env file {path}, which contains keys."
        problems.append(SettingProblem(what, f"Run: chmod 600 {shlex.quote(str(path))}", fatal=True))
        return {}
    return _parsed_env_file(path, text, problems)


def _parsed_env_file(path: Path, text: str, problems: list[SettingProblem]) -> dict[str, str]:
    """Read by python-dotenv's parser rather than its `dotenv_values`, which only logs a bad line."""
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        where = f"{path}, line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(SettingProblem(f"{where}: this is not KEY=VALUE."))
        elif binding.key in found:
            problems.append(SettingProblem(f"{where}: {_shown(binding.key)} is set a second time."))
        elif binding.key is not None:
            found[binding.key] = binding.value or ""
    return found


def judge_env_file_names(
    path: Path | None, names: Iterable[str], named: set[str], problems: list[SettingProblem]
) -> None:
    """In a file of ours every name must be known; `named` are those that a TOML file asks for."""
    known = NAMES | named
    for name in names:
        if name not in known:
            ours = name.upper().startswith(PREFIXES)
            nearest = f"Did you mean {meant(name)}?" if ours else did_you_mean(name, NAMES)
            todo = nearest or "An env file holds this program's own settings only."
            problems.append(SettingProblem(f"{path}: {_shown(name)} is not a setting.", todo))


def judge_environment_names(
    environ: Mapping[str, str], named: set[str], problems: list[SettingProblem]
) -> list[str]:
    """Names with our prefixes: each must be a setting. Return the keys that no connection uses.

    Kubernetes and Docker set variables for a service that is called like us; those are left alone.
    """
    known, unused = NAMES | named, []
    for name in sorted(environ):
        value = environ[name].strip()
        if name in known or not name.upper().startswith(PREFIXES) or not value or is_link(name, value):
            continue
        if _another_key(name) and named:
            unused.append(name)
            continue
        todo = f"Did you mean {meant(name)}?"
        if _another_key(name):
            todo += " If a TOML file names it, name that file with --config or CONNECTOR_CONFIG."
        todo += f" If another program needs it: env -u {shlex.quote(name)} beamer-segment …"
        problems.append(SettingProblem(f"{name} is not a setting.", todo))
    return unused


def _another_key(name: str) -> bool:
    """BEAMER_API_KEY_EU may well be the key of a connection that this configuration file does not have."""
    return any(name.startswith(f"{setting.environment}_") for setting in SECRET.values())


def _shown(name: str | None) -> str:
    """A name for an error, unless it may be a key on a line of its own (base64 ends with '=')."""
    return name if name and is_variable_name(name) else "a name"

"""Where settings come from: variables, env files, mounted secrets; unknown variables are refused."""

import io
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import parse_stream

from connector.config.addresses import default_env_file
from connector.config.settings import Connection, Setting, Settings
from connector.config.values import nearest, quoted
from connector.files import exists, is_readable_by_others

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
    """One thing that is wrong, and what to do; `fatal`: a file could not be read, other problems follow."""

    what: str
    todo: str = ""
    fatal: bool = False


class Problems(list[SettingProblem]):
    """All problems of a configuration."""

    def add(self, what: str, todo: str = "", *, fatal: bool = False) -> None:
        self.append(SettingProblem(what, todo, fatal))


@dataclass(frozen=True, slots=True)
class SecretAt:
    """Where a secret is. It is read later, so that one that is overridden may be missing.

    `shown` is the path as errors show it, empty if it may be the key itself.
    """

    kind: Literal["file", "variable"]
    where: str = field(repr=False)
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with its source (for `config show`) and its name there (for errors).

    `holder` is the variable or file from which a secret was read.
    """

    value: Any = field(repr=False)
    source: str
    label: str
    holder: str = ""


Layer = dict[str, Entry]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a suggestion for a misspelt word; empty without a similar one."""
    match = nearest(word, known)
    return f"Did you mean {match}?" if match else ""


def reason(error: OSError | ValueError) -> str:
    """Return why a file cannot be read."""
    return (error.strerror or "unreadable") if isinstance(error, OSError) else "it is not UTF-8 text"


def expanded(text: str) -> Path:
    """Return a path with `~` resolved, if there is a home directory."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


# --- secrets in files and in variables with other names ---

# A Beamer key begins with b_; others are long and mix letters and figures. A URL may hold a password.
_LIKE_A_KEY = re.compile(r"b_.*|.*[=@:].*|(?=.*\d)(?=.*[A-Za-z])[\w+-]{12,}")


def fetch(entry: Entry, variables: Mapping[str, Entry], required: bool, problems: Problems) -> Entry | None:
    """Return the secret to which an entry points, or an ordinary entry as it is."""
    at = entry.value
    if not isinstance(at, SecretAt):
        return entry
    if at.kind == "file":
        return _from_file(entry, at, problems)
    if at.where in variables:
        variable = variables[at.where]
        label = f"{at.where}, named by {entry.label}"
        return Entry(variable.value.strip(), variable.source, label, at.where)
    if required and _VARIABLE_NAME.fullmatch(at.where):
        problems.add(
            f"The variable {at.where} is not set, but is named by {entry.label}.", f"Set {at.where}."
        )
    elif required:
        todo = "It takes the NAME of a variable, not the key itself."
        problems.add(f"The variable named by {entry.label} is not set.", todo)
    return None


def _from_file(entry: Entry, at: SecretAt, problems: Problems) -> Entry | None:
    path, what = Path(at.where), f"the file {at.shown}" if at.shown else "the file that it names"
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        todo = "" if at.shown else "It takes the path of a file that holds the key, not the key itself."
        problems.add(f"{entry.label}: {what} cannot be read: {reason(error)}.", todo)
        return None
    if not text:
        problems.add(f"{entry.label}: {what} is empty.")
        return None
    return Entry(text, str(path), entry.label, str(path))


def file_at(where: str, beside: Path = Path()) -> SecretAt:
    """Return a file with a secret; its path is shown only if it surely is a path and not the key itself."""
    path = expanded(where)
    shown = str(path) if path.is_absolute() else quoted(where)
    return SecretAt("file", str(beside / path), shown if _surely_a_path(where, beside / path) else "")


def _surely_a_path(text: str, path: Path) -> bool:
    """Return whether no missing part of a path looks like a key; a bare word without a suffix may be one."""
    if exists(path):
        return True
    if "/" not in text and "." not in text:
        return False
    ancestors = [ancestor for ancestor in path.absolute().parents if exists(ancestor)]
    missing = path.absolute().relative_to(ancestors[0]) if ancestors else path
    return not any(_LIKE_A_KEY.fullmatch(part) for part in missing.parts)


# --- variables ---


def from_variables(variables: Mapping[str, str], source: str, problems: Problems) -> Layer:
    """Return the settings among environment variables; an empty variable counts as not set."""
    layer: Layer = {}
    for key, setting in EVERY.items():
        name, file_name = setting.environment, f"{setting.environment}_FILE"
        value, file = variables.get(name, "").strip(), variables.get(file_name, "").strip()
        if setting.secret and value and file:
            problems.add(f"{name} and {file_name} are both set.", "Keep one of them.")
            layer[key] = Entry(None, source, name)
        elif setting.secret and file:
            layer[key] = Entry(file_at(file), source, file_name)
        elif value:
            layer[key] = Entry(value, source, name)
    return layer


def env_file_in_use(environ: Mapping[str, str], config_file: Path | None = None) -> Path | None:
    """Return the env file that `init` wrote, if it is read: nothing else names a file or a key."""
    default = default_env_file(environ)
    if config_file or _what_comes_before(environ) or default is None or not exists(default):
        return None
    return default


def _what_comes_before(environ: Mapping[str, str]) -> str | None:
    """Return the first variable of the environment that keeps the default env file from being read."""
    keys = (SECRET[key].environment for key in ("api_key", "write_key"))
    names = (CONFIG_VARIABLE, *(name for key in keys for name in (key, f"{key}_FILE")))
    return next((name for name in names if environ.get(name, "").strip()), None)


def searched_for_keys(environ: Mapping[str, str], named_file: Path | None, env_file: Path | None) -> str:
    """Return where missing keys were looked for, as a sentence."""
    default, before = default_env_file(environ), _what_comes_before(environ)
    if named_file or env_file or default is None:
        searched = filter(None, ("Looked in the environment", named_file or env_file))
        return f"{' and in '.join(map(str, searched))}."
    reason = f"is not read, because {before} is set" if before else "does not exist"
    return f"Looked in the environment; {default} {reason}."


def env_file_variables(path: Path | None, problems: Problems) -> dict[str, str]:
    """Return the variables of an env file; refuse a file that others may read."""
    if path is None:
        return {}
    try:
        readable = is_readable_by_others(path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        todo = "Give the path of a file that you may read; `beamer-segment init` writes one."
        problems.add(f"The env file {path} cannot be read: {reason(error)}.", todo, fatal=True)
        return {}
    if readable:
        what = f"Other users may read the env file {path}, which contains keys."
        problems.add(what, f"Run: chmod 600 {shlex.quote(str(path))}", fatal=True)
        return {}
    return _parsed_env_file(path, text, problems)


def _parsed_env_file(path: Path, text: str, problems: Problems) -> dict[str, str]:
    """Parse with python-dotenv's parser: its `dotenv_values` would only log a bad line."""
    variables: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        where = f"{path}, line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            problems.add(f"{where}: this is not KEY=VALUE.")
        elif binding.key in variables:
            problems.add(f"{where}: {_shown(binding.key)} is set a second time.")
        elif binding.key is not None:
            variables[binding.key] = binding.value or ""
    return variables


def _shown(name: str | None) -> str:
    """Return a name for an error, unless it may be a key on a line of its own (base64 ends with '=')."""
    return name if name and _VARIABLE_NAME.fullmatch(name) else "a name"


# --- names that are no settings ---

PREFIXES = ("BEAMER_", "SEGMENT_", "CONNECTOR_")

# What Kubernetes sets in every pod for each Service of the namespace.
_SERVICE = re.compile(r".+_SERVICE_(HOST|PORT(_\w+)?)")
# What Docker's links set, and Kubernetes in their form.
_LINKED_PORT = re.compile(
    r".+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR)|_(START|END)(_(PORT|PROTO|ADDR))?)?"
)
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")
_LINK_NAME = re.compile(r"/[^/\s]+/[^/\s]+")

# Names that people use, with or without our prefixes, where the most similar setting is not the one meant.
_MEANT = {
    "SEGMENT_REGION=us": "US",
    "SEGMENT_REGION=eu": "EU",
    "SEGMENT_REGION": "DATA_RESIDENCY",
    "BEAMER_MONTHLY_REQUESTS": "LIMIT MONTHLY_LIMIT MONTHLY_QUOTA QUOTA REQUESTS MAX_REQUESTS",
    "BEAMER_REQUESTS_PER_SECOND": "RATE RATE_LIMIT RPS",
    "BEAMER_START_DATE": "SINCE FROM START BACKFILL_SINCE",
    "DATABASE_URL": "DB DB_URL DATABASE DATABASE_URI STATE",
    "LOG_LEVEL": "LOG",
    "LOG_LEVEL=debug": "DEBUG VERBOSE",
    "CONNECTOR_BIND": "PORT",
    "the option --env-file": "ENV_FILE",
    "the option --dry-run": "DRY_RUN",
    "BEAMER_API_KEY": "BEAMER_KEY BEAMER_TOKEN BEAMER_API_TOKEN",
    "BEAMER_BASE_URL": "BEAMER_URL BEAMER_HOST BEAMER_ENDPOINT",
    "SEGMENT_WRITE_KEY": "SEGMENT_KEY SEGMENT_TOKEN SEGMENT_API_KEY",
    "SEGMENT_PUBLIC_API_TOKEN": "SEGMENT_PUBLIC_TOKEN PUBLIC_API_TOKEN SEGMENT_ACCESS_TOKEN",
    "SEGMENT_HOST": "SEGMENT_URL SEGMENT_API_URL SEGMENT_BASE_URL SEGMENT_ENDPOINT",
}
_MEANT_BY = {word: setting for setting, words in _MEANT.items() for word in words.split()}
# Of two equally similar names, the one under the same prefix is meant.
_SAME_PREFIX = 0.05


def judge_env_file_names(
    path: Path | None, names: Iterable[str], named: set[str], problems: Problems
) -> None:
    """Refuse names in an env file that are neither settings nor `named` by a TOML file."""
    for name in names:
        if name not in NAMES | named:
            ours = name.upper().startswith(PREFIXES)
            hint = f"Did you mean {_meant(name)}?" if ours else did_you_mean(name, NAMES)
            todo = hint or "An env file holds this program's own settings only."
            problems.add(f"{path}: {_shown(name)} is not a setting.", todo)


def judge_environment_names(environ: Mapping[str, str], named: set[str], problems: Problems) -> list[str]:
    """Refuse variables with our prefixes that are no settings; return the keys that no connection uses.

    Kubernetes and Docker set variables for a service with a name like ours; those are ignored.
    """
    unused = []
    for name in sorted(environ):
        value, known = environ[name].strip(), name in NAMES or name in named
        if known or not name.upper().startswith(PREFIXES) or not value or _is_link(name, value):
            continue
        # BEAMER_API_KEY_EU may well be the key of a connection that this configuration file does not have.
        another_key = any(name.startswith(f"{setting.environment}_") for setting in SECRET.values())
        if another_key and named:
            unused.append(name)
            continue
        todo = f"Did you mean {_meant(name)}?"
        if another_key:
            todo += " If a TOML file names it, name that file with --config or CONNECTOR_CONFIG."
        todo += f" If another program needs it: env -u {shlex.quote(name)} beamer-segment …"
        problems.add(f"{name} is not a setting.", todo)
    return unused


def _is_link(name: str, value: str) -> bool:
    """Return whether Kubernetes or Docker set this variable for a service with a name like ours."""
    return bool(
        _SERVICE.fullmatch(name)
        or _LINKED_PORT.fullmatch(name)
        or (name.endswith("_PORT") and _LINK_ADDRESS.fullmatch(value))
        or (name.endswith("_NAME") and _LINK_NAME.fullmatch(value))
        or ("_ENV_" in name and not _meant(name).startswith("the option"))
    )


def _meant(name: str) -> str:
    """Return the setting that is probably meant: by a usual name, or the most similar name."""
    upper = name.upper()
    _, rest = _parted(upper)
    if setting := _MEANT_BY.get(upper) or _MEANT_BY.get(rest):
        return setting
    return max(sorted(NAMES), key=lambda known: _likeness(upper, known))


def _parted(name: str) -> tuple[str, str]:
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return prefix, name.removeprefix(prefix)


def _likeness(name: str, known: str) -> float:
    """Return how similar two names are without their prefixes: BEAMER_REGION is SEGMENT_REGION."""
    (prefix, rest), (known_prefix, known_rest) = _parted(name), _parted(known)
    return SequenceMatcher(None, rest, known_rest).ratio() + _SAME_PREFIX * (prefix == known_prefix)

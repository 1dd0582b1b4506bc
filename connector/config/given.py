"""What was given, and where; and what is wrong with it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from connector.config.connection import Connection
from connector.config.model import Settings
from connector.config.setting import Setting
from connector.config.values import nearest

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
class Problem:
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

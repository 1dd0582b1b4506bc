"""The settings for people: those in use, and all that exist."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from connector.config.connection import Connection
from connector.config.setting import Setting
from connector.config.settings import Settings
from connector.config.sources import CONFIG_VARIABLE
from connector.domain.plans import Plan


class Shown(NamedTuple):
    """A setting in use."""

    name: str
    value: str
    source: str
    description: str


class Known(NamedTuple):
    """A setting that exists."""

    environment: str
    toml: str
    type: str
    default: str
    description: str


def redacted(settings: Settings) -> list[Shown]:
    """Return the settings in use; of a secret only that it is set.

    The names are the environment's; with several connections, `connection.key`.
    """
    return [*_shown(settings, ""), *_connections(settings)]


def _connections(settings: Settings) -> Iterator[Shown]:
    alone = len(settings.connections) == 1 and settings.connections[0].name == "default"
    for connection in settings.connections:
        yield from _shown(connection, "" if alone else connection.name)


def _shown(model: Connection | Settings, prefix: str) -> Iterator[Shown]:
    for key, setting in model.settings().items():
        name = f"{prefix}.{key}" if prefix else setting.environment
        yield Shown(name, _value(model, key, setting), model.source(key), setting.description)


def _value(model: BaseModel, key: str, setting: Setting) -> str:
    """A SQLite URL has no password, and people look for where their state lies."""
    value = getattr(model, key)
    if not setting.secret or value is None or str(value).startswith("sqlite:"):
        return text(value)
    return "set"


def known_settings() -> list[Known]:
    """Return every setting, for the README's tables and the tests."""
    config = Known(
        CONFIG_VARIABLE, "", "a path", "not set", "A TOML file, or a directory of them (also --config)."
    )
    return [config, *_known(Settings), *_known(Connection)]


def _known(model: type[Connection] | type[Settings]) -> Iterator[Known]:
    for key, setting in model.settings().items():
        toml = f"{key}_env, {key}_file" if setting.secret else key
        default = text(model.model_fields[key].get_default())
        yield Known(setting.environment, toml, setting.form, default, setting.description)


def text(value: Any) -> str:
    """A value as it could be written in the environment."""
    match value:
        case None:
            return "not set"
        case bool():
            return str(value).lower()
        case float():
            return f"{value * 100:g}%"
        case timedelta():
            return _duration(value)
        case datetime():
            return value.isoformat()
        case Plan():
            return value.name
        case tuple():
            return ",".join(value) or "not set"
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case SecretStr():
            return "set"
        case _:
            return str(value)


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for unit, size in (("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s" if seconds else "0"

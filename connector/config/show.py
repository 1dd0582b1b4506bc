"""The settings for people: those in use, and all that exist."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import SecretStr

from connector.config.settings import Connection, Settings
from connector.config.sources import CONFIG_VARIABLE
from connector.domain.budget import Plan


class Shown(NamedTuple):
    """A setting in use."""

    name: str
    value: str
    source: str


class Known(NamedTuple):
    """A setting that exists."""

    environment: str
    toml: str
    type: str
    default: str
    description: str


def redacted(settings: Settings) -> list[Shown]:
    """Return the settings in use; of a secret only whether it is set.

    The names are the environment's; with several connections, `connection.key`.
    """
    unnamed = len(settings.connections) == 1 and settings.connections[0].name == "default"
    shown = list(_shown(settings, ""))
    for connection in settings.connections:
        shown += _shown(connection, "" if unnamed else connection.name)
    return shown


def _shown(model: Connection | Settings, prefix: str) -> Iterator[Shown]:
    for key, setting in model.settings().items():
        name = f"{prefix}.{key}" if prefix else setting.environment
        value = text(getattr(model, key))
        # A SQLite URL has no password, and people search for their state's location.
        hidden = setting.secret and value != "not set" and not value.startswith("sqlite:")
        yield Shown(name, "set" if hidden else value, model.source(key))


def known_settings() -> list[Known]:
    """Return every setting, for the tables of the documentation and the tests."""
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
    """Return a value as it could be written in the environment."""
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
        case dict() if all(isinstance(part, float) for part in value.values()):
            return ", ".join(f"{name}={number:g}" for name, number in value.items()) or "not set"
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

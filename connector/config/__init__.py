"""The configuration: the only part that reads the environment and files."""

from connector.config.addresses import (
    database_location,
    default_env_file,
    ephemeral_location,
    surroundings,
)
from connector.config.loading import load
from connector.config.settings import Connection, Settings, Shard
from connector.config.show import known_settings, redacted
from connector.config.sources import env_file_in_use
from connector.config.values import STREAMS, Reserve

__all__ = [
    "STREAMS",
    "Connection",
    "Reserve",
    "Settings",
    "Shard",
    "database_location",
    "default_env_file",
    "env_file_in_use",
    "ephemeral_location",
    "known_settings",
    "load",
    "redacted",
    "surroundings",
]

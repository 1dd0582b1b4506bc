"""The configuration: the only part that reads the environment and files."""

from connector.config.addresses import database_location, ephemeral_location, surroundings
from connector.config.connection import Connection
from connector.config.loading import load
from connector.config.setting import Setting
from connector.config.settings import Settings
from connector.config.show import Known, Shown, known_settings, redacted
from connector.config.values import STREAMS, Reserve

__all__ = [
    "STREAMS",
    "Connection",
    "Known",
    "Reserve",
    "Setting",
    "Settings",
    "Shown",
    "database_location",
    "ephemeral_location",
    "known_settings",
    "load",
    "redacted",
    "surroundings",
]

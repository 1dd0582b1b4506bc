"""The command line: one file a command or group of commands, loaded when it is called."""

from connector.cli.app import main

__all__ = ["main"]

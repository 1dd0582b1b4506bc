"""Several connections to one sandbox: each its own Beamer account by its name and its key."""

from collections.abc import Iterable
from typing import Any

from tests.cli.conftest import Make
from tests.cli.process import Machine

TABLE = """
[[connections]]
name = "{name}"
account = "{account}"
destination = "to.{name}"
api_key_env = "KEY_{name}"
write_key_env = "WRITE"
"""


def accounts(
    make: Make, names: Iterable[str], *, above: str = "", account: str = "", **options: Any
) -> Machine:
    """A machine with these connections in its configuration; `account` is one that all of them share."""
    names = tuple(names)
    machine = make(**options)
    file = machine.here / "connector.toml"
    tables = (TABLE.format(name=name, account=account or f"of.{name}") for name in names)
    file.write_text(above + "".join(tables))
    machine.sandbox.more_keys.update(map(key, names))
    machine.extra |= {
        "BEAMER_API_KEY": "",
        "SEGMENT_WRITE_KEY": "",
        "CONNECTOR_CONFIG": str(file),
        "WRITE": machine.sandbox.write_key,
        **{f"KEY_{name}": machine.sandbox.api_key if account else key(name) for name in names},
    }
    return machine


def key(name: str) -> str:
    """The Beamer key of a connection with an account of its own."""
    return f"beamer-key-of-{name}"

"""A sandbox on loopback and a machine that runs the connector against it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import Machine, made_up
from tests.cli.switch import Switch
from tests.sandbox import Sandbox

Make = Callable[..., Machine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make a machine around a sandbox, with a disk of its own."""
    with ExitStack() as stack:

        def machine(sandbox: Sandbox | None = None, **options: Any) -> Machine:
            sandbox = sandbox or made_up()
            return Machine(sandbox, stack.enter_context(sandbox.serve()), tmp_path, **options)

        yield machine


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch()
    yield switch
    switch.server.shutdown()
    switch.server.server_close()


@pytest.fixture
def machine(make: Make) -> Machine:
    """A machine with its store on its own disk."""
    return make()


@pytest.fixture
def on_either(make: Make, database_url: str) -> Machine:
    """A machine with an empty store, once SQLite and once PostgreSQL."""
    return make(database_url=database_url)

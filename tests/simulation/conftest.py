"""One store's file and quiet logs for all lives of a test process."""

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.crashes import Disk
from tests.simulation.sometimes import listen


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    listen()
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    disk = Disk(tmp_path_factory.mktemp("simulation"))
    yield disk
    disk.close()

"""The image's content, made once for all tests of a process, and a sandbox for it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.process import Machine, made_up
from tests.places.image import Image, built


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Everything that the Dockerfile installs, read-only; pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="beamer-segment-image-") as folder:
        here = Path(folder)
        here.chmod(0o755)
        yield built(here)
        for path in here.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A sandbox, and what it is like after a run; programs are started by `image`."""
    sandbox = made_up()
    with sandbox.serve() as served:
        yield Machine(sandbox, served, tmp_path)


@pytest.fixture
def settings(machine: Machine) -> dict[str, str]:
    """Where Beamer and Segment are, a date that makes a run's work certain, and no pacing; no keys."""
    return {
        "BEAMER_BASE_URL": machine.served.beamer_url,
        "SEGMENT_HOST": machine.served.segment_url,
        "BEAMER_START_DATE": machine.start.isoformat(),
        "BEAMER_REQUESTS_PER_SECOND": "1000",
    }


@pytest.fixture
def keys(machine: Machine) -> dict[str, str]:
    return {"BEAMER_API_KEY": machine.sandbox.api_key, "SEGMENT_WRITE_KEY": machine.sandbox.write_key}

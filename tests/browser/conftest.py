"""One browser for all tests here, and a page made from a planted store by the command itself."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connector.state.engine import open_database
from tests.browser import chromium
from tests.browser.chromium import Chromium
from tests.browser.planted import planted
from tests.cli.process import Machine, made_up

NO_BROWSER = "no Chromium was found (Debian: apt-get install chromium; or name it in CHROMIUM)"


@dataclass(frozen=True)
class Written:
    """A page on disk, and what `status --output json` says of the same store."""

    file: Path
    status: list[dict[str, Any]]

    @property
    def url(self) -> str:
        return self.file.as_uri()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if chromium.program() is None:
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)
    with chromium.started(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The page of a connection with a month of life, on a plan with a limit."""
    return wrote(tmp_path_factory.mktemp("report"), ("default",))


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A page of more connections than are opened by themselves."""
    return wrote(tmp_path_factory.mktemp("many"), ("a", "b", "c", "d"))


def wrote(here: Path, names: tuple[str, ...]) -> Written:
    url = f"sqlite:///{here / 'state.sqlite'}"
    database = open_database(url)
    for name in names:
        planted(database, datetime.now(UTC), name=name)
    database.close()
    sandbox = made_up()
    with sandbox.serve() as served:
        machine = Machine(sandbox, served, here, url, extra={"BEAMER_PLAN": "free"})
        if len(names) > 1:
            machine.extra |= {
                "CONNECTOR_CONFIG": str(_several(here, names)),
                "BEAMER_API_KEY": "",
                "SEGMENT_WRITE_KEY": "",
            }
        file = here / "report.html"
        done = machine.run("report", "--html", str(file), "--output", "json")
        assert done.code == 0, done.err
        assert done.json["bytes"] == file.stat().st_size
        status = machine.run("status", "--output", "json").json["connections"]
    return Written(file, status)


def _several(here: Path, names: tuple[str, ...]) -> Path:
    file = here / "connector.toml"
    file.write_text("".join(f"[[connections]]\nname = {json.dumps(name)}\n" for name in names))
    return file

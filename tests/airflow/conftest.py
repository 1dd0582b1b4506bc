"""Airflow, set up once, and a sandbox with a PostgreSQL store for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow.place import VENV, Airflow, Driver
from tests.cli.process import Machine, made_up

# Airflow needs a venv of its own: `make test-airflow` makes it, and runs what is here.
collect_ignore_glob = [] if os.environ.get(VENV) else ["test_*.py"]


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow that has nothing but our DAGs."""
    found = Airflow(tmp_path_factory.mktemp("airflow"))
    found.run("db", "migrate")
    return found


@pytest.fixture(scope="session")
def driver(airflow: Airflow) -> Iterator[Driver]:
    found = Driver(airflow)
    yield found
    found.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    sandbox = made_up()
    with sandbox.serve() as served:
        yield Machine(sandbox, served, tmp_path)


@pytest.fixture
def settings(machine: Machine, postgres_url: str) -> dict[str, str]:
    """The connector's environment, as an Airflow user writes it into the Connection."""
    return {
        "BEAMER_API_KEY": machine.sandbox.api_key,
        "SEGMENT_WRITE_KEY": machine.sandbox.write_key,
        "DATABASE_URL": postgres_url.replace("postgresql+psycopg", "postgres"),
        "BEAMER_BASE_URL": machine.served.beamer_url,
        "SEGMENT_HOST": machine.served.segment_url,
        "BEAMER_START_DATE": machine.start.isoformat(),
        "BEAMER_REQUESTS_PER_SECOND": "1000",
    }

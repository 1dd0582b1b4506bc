"""Where the state is kept."""

import pytest
from sqlalchemy import make_url

from connector.config import database_location, ephemeral_location
from connector.errors import ConfigurationError

HOME = {"HOME": "/home/me"}


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        (HOME, "/home/me/.local/state/beamer-segment/state.sqlite"),
        ({**HOME, "XDG_STATE_HOME": "/state"}, "/state/beamer-segment/state.sqlite"),
        ({**HOME, "XDG_STATE_HOME": "state"}, "/home/me/.local/state/beamer-segment/state.sqlite"),
        ({"HOME": "/a b/50%/#?é"}, "/a b/50%/#?é/.local/state/beamer-segment/state.sqlite"),
    ],
)
def test_sqlite_by_default(environ: dict[str, str], path: str) -> None:
    for nothing in (None, ""):
        url = make_url(database_location(environ, nothing))
        assert (url.drivername, url.database) == ("sqlite", path)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("postgres://u:p@h:5432/d", "postgresql+psycopg://u:p@h:5432/d"),
        ("postgresql://u:p%40ss@h/d?sslmode=require", "postgresql+psycopg://u:p%40ss@h/d?sslmode=require"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg://h/d"),
        ("sqlite:////var/x.sqlite", "sqlite:////var/x.sqlite"),
        ("sqlite+pysqlite:////var/x.sqlite", "sqlite:////var/x.sqlite"),
    ],
)
def test_urls_are_made_sqlalchemys(given: str, url: str) -> None:
    assert database_location({}, given) == url


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("sqlite:///state.sqlite", "relative path"),
        ("sqlite:///~/state.sqlite", "relative path"),
        ("sqlite:///file:x?mode=rwc&uri=true", "relative path"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://u:hunter2@h/d", "only PostgreSQL and SQLite are"),
        ("postgresql+asyncpg://u:hunter2@h/d", "only PostgreSQL and SQLite are"),
        ("u:hunter2@h/d", "not a database URL"),
        ("postgresql://u:p@h:hunter2/d", "not a database URL"),
        ("/var/hunter2", "not a database URL"),
    ],
)
def test_urls_that_cannot_keep_the_state(given: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        database_location(HOME, given)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_it_asks_for_a_database(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="Set DATABASE_URL"):
        database_location(environ, None)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "a Kubernetes pod"),
        ({"AIRFLOW_CTX_DAG_ID": "d"}, "an Airflow task"),
        ({"AIRFLOW_CTX_TASK_ID": "t"}, "an Airflow task"),
        ({"AIRFLOW_HOME": "/opt/airflow"}, None),
    ],
)
def test_ephemeral_locations(environ: dict[str, str], place: str | None) -> None:
    assert ephemeral_location(environ) == place

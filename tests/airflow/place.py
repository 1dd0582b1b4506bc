"""An Airflow of the tests' own: its home in a folder of theirs, its database a SQLite file in it."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.process import ROOT, until

HERE = Path(__file__).parent
# `make test-airflow` sets it; without it nothing in this folder is collected.
VENV = "TEST_AIRFLOW_VENV"
CONNECTOR = ROOT / ".venv" / "bin" / "beamer-segment"
LONGEST = 180.0

QUIET = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "SCARF_ANALYTICS": "false",
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
}

Row = dict[str, Any]


@dataclass
class Airflow:
    """One AIRFLOW_HOME; `settings` become the Extra of the Connection `beamer_segment`."""

    home: Path
    log: list[str] = field(default_factory=list)

    @property
    def program(self) -> Path:
        return Path(os.environ[VENV]) / "bin" / "airflow"

    @property
    def python(self) -> Path:
        return Path(os.environ[VENV]) / "bin" / "python"

    def environment(self, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": f"{self.program.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "config" / "airflow"),
            "PYTHONPATH": str(HERE / "guard"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_VAR_BEAMER_SEGMENT_BIN": str(CONNECTOR),
            **QUIET,
            **(connection(settings) if settings is not None else {}),
        }

    def run(self, *words: str, settings: Mapping[str, str] | None = None) -> str:
        """A command of Airflow's; what it said."""
        done = subprocess.run(
            [str(self.program), *words],
            env=self.environment(settings),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "GUARD:" not in done.stdout
        return done.stdout

    def guarded(self, program: str) -> "subprocess.CompletedProcess[str]":
        """A line of Python, as all of Airflow's Python runs here."""
        command = [str(self.python), "-c", program]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)

    def stopped(self, settings: Mapping[str, str], when: Callable[[], bool]) -> str:
        """Run the operator's sync and stop it as Airflow does; what the operator says of it."""
        process = subprocess.Popen(
            [str(self.python), str(HERE / "stopped.py")],
            env=self.environment(settings),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: when() or process.poll() is not None, LONGEST)
        process.terminate()
        out, err = process.communicate(timeout=LONGEST)
        assert out, err
        return out.splitlines()[-1]

    def rows(self, statement: str, *values: str) -> list[Row]:
        """What Airflow's own database holds."""
        with closing(sqlite3.connect(self.home / "airflow.db")) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(statement, values)]

    def newest(self, dag: str) -> str:
        """The DAG's last run."""
        found = self.rows("SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1", dag)
        return str(found[0]["run_id"])

    def tasks(self, run: str) -> dict[str, tuple[str, int]]:
        """State and number of tries of each task of a run, mapped ones by their connection's name."""
        found = self.rows(
            "SELECT task_id, map_index, rendered_map_index, state, try_number FROM task_instance"
            " WHERE run_id = ? ORDER BY task_id, map_index",
            run,
        )
        return {
            f"{row['task_id']} {row['rendered_map_index'] or ''}".strip(): (row["state"], row["try_number"])
            for row in found
        }

    def summaries(self, run: str) -> list[Any]:
        """What the tasks handed on, in the order of their names and numbers."""
        found = self.rows(
            "SELECT value FROM xcom WHERE run_id = ? AND key = 'return_value' ORDER BY task_id, map_index",
            run,
        )
        return [
            json.loads(json.loads(row["value"]) if _quoted(row["value"]) else row["value"]) for row in found
        ]

    def updated(self, since: int = 0) -> list[tuple[str, Row]]:
        """The assets that were updated, and what was said with it."""
        found = self.rows(
            "SELECT a.uri AS uri, e.extra AS extra FROM asset_event e JOIN asset a ON a.id = e.asset_id"
            " ORDER BY e.id"
        )
        return [(row["uri"], json.loads(row["extra"])) for row in found[since:]]

    def everything_kept(self) -> str:
        """All that Airflow has written: its database and its log files."""
        files = [path for path in self.home.rglob("*") if path.is_file()]
        return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in files)


def _quoted(text: Any) -> bool:
    """Whether a JSON value was put into JSON once more."""
    return isinstance(json.loads(text), str)


def connection(settings: Mapping[str, str]) -> dict[str, str]:
    """The Connection, as Airflow takes it from its environment."""
    return {"AIRFLOW_CONN_BEAMER_SEGMENT": json.dumps({"conn_type": "generic", "extra": dict(settings)})}


class Driver:
    """One Airflow that stays, for many runs."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow
        self._log = airflow.home / "driver.log"
        reading, writing = os.pipe()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(airflow.python), str(HERE / "driver.py"), str(writing)],
                env=airflow.environment(),
                cwd=airflow.home,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                pass_fds=[writing],
            )
        os.close(writing)
        self._replies = os.fdopen(reading)
        self.parsed = self._reply()

    def _reply(self) -> Row:
        line = self._replies.readline()
        assert line, self.log[-8000:]
        return dict(json.loads(line))

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def run(self, dag: str, settings: Mapping[str, str], conf: Row | None = None) -> tuple[str, str]:
        """Run a DAG once; its run's id and state."""
        asked = {"dag": dag, "conf": conf, "environ": connection(settings)}
        assert self._process.stdin
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        reply = self._reply()
        return reply["run"], reply["state"]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)
        self._replies.close()


def named(names: Sequence[str], here: Path) -> dict[str, str]:
    """A configuration of several connections, keys by names of variables."""
    table = (
        '[[connections]]\nname = "{name}"\naccount = "of.{name}"\ndestination = "to.{name}"\n'
        'api_key_env = "KEY_{name}"\nwrite_key_env = "WRITE_KEY"\n'
    )
    file = here / "connector.toml"
    file.write_text("\n".join(table.format(name=name) for name in names))
    return {"CONNECTOR_CONFIG": str(file)}

# mypy: ignore-errors
"""Runs the operator as a task's process does, SIGTERM and all; run by Airflow's own Python.

The task's process is not the DAG's test but a worker's: it calls `on_kill` when it gets SIGTERM, and lets the
operator end by itself.
"""

import os
import runpy
import signal
from pathlib import Path

from airflow.sdk.exceptions import AirflowException

DAG_FILE = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / "beamer_segment_dag.py"


def main() -> None:
    operator = runpy.run_path(str(DAG_FILE))["BeamerSegment"](task_id="sync", words=["sync"])
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    try:
        operator.run(["sync"])
    except AirflowException as error:
        print(error)  # noqa: T201


if __name__ == "__main__":
    main()

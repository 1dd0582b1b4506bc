# mypy: ignore-errors
"""Runs DAGs one after the other in one Airflow, as `airflow dags test` does; run by Airflow's own Python.

Airflow takes a quarter of a minute to get ready, and some seconds for a run. A line of JSON on standard input
says which DAG with which parameters and environment; a line on the given descriptor says how the run ended.
"""

import json
import os
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag


def main() -> None:
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    with os.fdopen(int(sys.argv[1]), "w") as replies:
        print(json.dumps({"errors": bag.import_errors, "dags": sorted(bag.dags)}), file=replies, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            os.environ.update(asked["environ"])
            run = bag.dags[asked["dag"]].test(run_conf=asked["conf"])
            print(json.dumps({"run": run.run_id, "state": str(run.state)}), file=replies, flush=True)


if __name__ == "__main__":
    main()

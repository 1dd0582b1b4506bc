"""The DAGs' file, read without Airflow: what it takes from whom, and which exit codes it knows.

What it does is tried in a real Airflow, by `make test-airflow`.
"""

import ast
import sys

from connector.errors import Exit
from tests.places.dockerfile import ROOT

TREE = ast.parse((ROOT / "config" / "airflow" / "beamer_segment_dag.py").read_text(encoding="utf-8"))


def test_it_is_written_against_the_sdk_alone() -> None:
    """The connector is no package of Airflow's environment, nor are Airflow's own insides for DAGs."""
    plain = {name.name for node in ast.walk(TREE) if isinstance(node, ast.Import) for name in node.names}
    taken = {node.module or "" for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
    strangers = {name for name in plain | taken if name.partition(".")[0] not in sys.stdlib_module_names}
    assert strangers == {"airflow.sdk", "airflow.sdk.exceptions", "airflow.sdk.log"}


def test_its_exit_codes_are_the_connector_s() -> None:
    names = "DONE, USAGE, SKIPPED, KEY_REFUSED, CONFIGURATION"
    (codes,) = (
        ast.literal_eval(node.value)
        for node in TREE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).strip("()") == names
    )
    assert codes == (Exit.DONE, Exit.USAGE, 99, Exit.REFUSED, Exit.CONFIGURATION)
    assert 99 not in set(Exit), "what stands for a skip is no code of its own"


def test_no_shell_is_in_it() -> None:
    calls = [node for node in ast.walk(TREE) if isinstance(node, ast.Call)]
    assert not [call for call in calls if any(word.arg == "shell" for word in call.keywords)]
    assert not [call for call in calls if ast.unparse(call.func) in ("os.system", "os.popen")]

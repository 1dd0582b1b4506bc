"""### Beamer to Segment

`beamer_segment_sync` sends what is new, one task for each connection. `beamer_segment_backfill` sends history
once, for one connection and a range of dates. Both can be stopped and run again at any time.

The connector is not installed in Airflow's environment, but in its own venv on each worker (or in the image):

    python -m venv /opt/beamer-segment
    /opt/beamer-segment/bin/pip install '/path/to/the/checkout[postgres]'

It needs two settings:

- The Variable `beamer_segment_bin` (or AIRFLOW_VAR_BEAMER_SEGMENT_BIN): the path of its program on a worker.
- The Connection `beamer_segment` (type generic): its Extra is the program's environment, a JSON object with
  BEAMER_API_KEY, SEGMENT_WRITE_KEY and DATABASE_URL (its own PostgreSQL database, not Airflow's). For
  several connections: DATABASE_URL, CONNECTOR_CONFIG and the variables that this file names.

Of Airflow's environment it only receives the variables for proxy, CA and locale. Keys are in no command line,
no log and no XCom.
"""

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, BaseHook, BaseOperator, Param, Variable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.log import mask_secret

CONNECTION = "beamer_segment"
PROGRAM = "/opt/beamer-segment/bin/beamer-segment"
# The variables of the worker that the program needs. With AIRFLOW_CTX_… it detects a task: there it creates
# no database on the local disk, which may be gone at the next run.
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
PASSED_PREFIXES = ("AIRFLOW_CTX_",)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")

# The connector's exit codes (docs/reference/exit-codes.md). All others are retried.
DONE, USAGE, SKIPPED, KEY_REFUSED, CONFIGURATION = 0, 2, 99, 77, 78
HOPELESS = (USAGE, KEY_REFUSED, CONFIGURATION)


class BeamerSegment(BaseOperator):
    """Runs one command of the connector for one connection; its JSON summary becomes the XCom.

    A run that has sent something updates the Asset `x-beamer-segment://<connection>`, on which other DAGs can
    be scheduled. When the task is stopped, the command finishes the current page and batch.
    """

    template_fields: Sequence[str] = ("words", "connection")
    ui_color = "#dbe9ff"

    def __init__(self, *, words: Iterable[str], connection: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.words = list(words)
        self.connection = connection
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> Any:
        name = self.connection
        chosen = [f"--connection={name}"] if name else []
        (summary,) = self.run([*given(self.words), *chosen])["connections"]
        if summary.get("sent"):
            asset = Asset(name=f"beamer_segment.{summary['connection']}", uri=uri(summary["connection"]))
            context["outlet_events"][ALIAS].add(asset, extra={"sent": summary["sent"], "run": summary["run"]})
        return summary

    def on_kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def run(self, words: Sequence[str]) -> dict[str, Any]:
        """Run the program without a shell, and return the JSON object that it prints last."""
        command = [Variable.get("beamer_segment_bin", default=PROGRAM), *words, "--output", "json"]
        self.log.info("running: %s", " ".join(command))
        with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
            with subprocess.Popen(  # noqa: S603 - a list of words, and no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                env=environment(),
                encoding="utf-8",
                errors="replace",
            ) as process:
                self._process = process
                try:
                    for line in process.stderr or ():
                        self.log.log(level(line), "%s", line.rstrip())
                except BaseException:  # the task's time-out, for one
                    process.terminate()
                    raise
            out.seek(0)
            return ended(process.returncode, out.read())


class Connections(BeamerSegment):
    """Returns the names of the configured connections; also checks that the database can be read."""

    def execute(self, context: Any) -> list[str]:  # noqa: ARG002 - Airflow's signature
        return [each["connection"] for each in self.run(given(self.words))["connections"]]


def given(words: Iterable[str]) -> list[str]:
    """Leave out options with an empty value after '='; a template writes None for what is not set."""
    return [word for word in words if word and not word.endswith(("=", "=None"))]


def environment() -> dict[str, str]:
    """Return the program's environment: the Extra of the Connection, and the variables passed on."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED or name.startswith(PASSED_PREFIXES) or name.lower() in PROXIES
    }
    extra: Mapping[str, Any] = BaseHook.get_connection(CONNECTION).extra_dejson
    settings = {name: text if isinstance(text, str) else json.dumps(text) for name, text in extra.items()}
    for name, text in settings.items():
        if "KEY" in name or "URL" in name:
            mask_secret(text)
    return {**passed, **settings}


def level(line: str) -> int:
    """Return the level of a log line; a line that is not JSON is an error message for people."""
    try:
        named = str(json.loads(line)["level"])
    except (ValueError, TypeError, KeyError):
        return logging.WARNING
    return logging.getLevelNamesMapping().get(named.upper(), logging.INFO)


def ended(code: int, out: str) -> dict[str, Any]:
    """Return the summary of a successful run; otherwise raise what makes Airflow skip, fail or retry."""
    lines = out.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        found = {}
    if code == DONE and found:
        return dict(found)
    said = f"exit code {code}: {why(found)}"
    if code == SKIPPED:
        raise AirflowSkipException(said)
    if code in HOPELESS:
        raise AirflowFailException(said)
    raise AirflowException(said)


def why(found: Mapping[str, Any]) -> str:
    """Return the errors of the summary; they never contain a key."""
    parts = [found, *(found.get("connections") or ())]
    errors = [part["error"] for part in parts if part.get("error")]
    stopped = [part["stopped"] for part in parts if part.get("stopped")]
    said = [f"{error['code']} {error['what']}" for error in errors] or [str(each) for each in stopped]
    return "; ".join(said) or "see the log"


def uri(connection: str) -> str:
    return f"x-beamer-segment://{connection}"


# Mapped tasks share their outlets; each adds its own connection's Asset to this one.
ALIAS = AssetAlias("beamer_segment")


with DAG(
    "beamer_segment_sync",
    doc_md=__doc__,
    schedule="*/15 * * * *",
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_exponential_backoff": True},
    tags=["beamer", "segment"],
):
    connections = Connections(task_id="connections", words=["status"])
    # A failure does not affect the others. Skipped: 75 (another run is in progress), or no available request.
    BeamerSegment.partial(
        task_id="sync",
        words=["sync", f"--skip-exit-code={SKIPPED}"],
        map_index_template="{{ task.connection }}",
        execution_timeout=timedelta(hours=1),
        outlets=[ALIAS],
    ).expand(connection=connections.output)


with DAG(
    "beamer_segment_backfill",
    doc_md=__doc__,
    schedule=None,
    default_args={"retries": 3, "retry_exponential_backoff": True},
    tags=["beamer", "segment"],
    params={
        "since": Param("2024-01-01", type="string", format="date", description="The first day (UTC)."),
        "until": Param(
            None, type=["null", "string"], format="date", description="The day before which to end."
        ),
        "connection": Param("", type="string", description="Use only this connection."),
        "max_requests": Param(
            None, type=["null", "integer"], minimum=0, description="Send at most this many requests."
        ),
        "share": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{1,3}%$",
            description="Send at most this share of the requests left this month, such as 50%.",
        ),
        "integrations": Param(
            None,
            type=["null", "object"],
            description='Destinations of history: {"All": false, "Amplitude": true}.',
        ),
        "everywhere": Param(False, type="boolean", description="Send history to every destination."),
        "dry_run": Param(False, type="boolean", description="Only print an estimate."),
    },
):
    BeamerSegment(
        task_id="backfill",
        words=[
            "backfill",
            "--since={{ params.since }}",
            "--until={{ params.until }}",
            "--max-requests={{ params.max_requests }}",
            "--share={{ params.share }}",
            "--integrations={{ params.integrations | tojson if params.integrations is not none else '' }}",
            "{{ '--yes' if params.everywhere else '' }}",
            "{{ '--dry-run' if params.dry_run else '' }}",
        ],
        connection="{{ params.connection }}",
        execution_timeout=timedelta(hours=12),
        outlets=[ALIAS],
    )

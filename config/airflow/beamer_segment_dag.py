"""### Beamer to Segment

`beamer_segment_sync` reads what is new, one task for each connection; `beamer_segment_backfill` brings
history, once, for the connection and the dates that it is asked for. Both can be stopped and run again at any
time.

The connector lives outside Airflow's own environment, in a venv of its own on each worker (or in the image):

    python -m venv /opt/beamer-segment
    /opt/beamer-segment/bin/pip install '/path/to/the/checkout[postgres]'

It is told two things:

- The Variable `beamer_segment_bin` (or AIRFLOW_VAR_BEAMER_SEGMENT_BIN): where its program lies on a worker.
- The Connection `beamer_segment` (type generic): its Extra is the program's environment, a JSON object with
  BEAMER_API_KEY, SEGMENT_WRITE_KEY and DATABASE_URL (a PostgreSQL database of its own, never Airflow's). If
  there are several connections: with DATABASE_URL, CONNECTOR_CONFIG and the variables that this file names.

Nothing else of Airflow's environment reaches it but the proxy's, the CA's and the locale's variables. Keys
are in no command line, no log and no XCom.
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
# What of the worker's environment a program needs to find its way out. AIRFLOW_CTX_… tells it where it is: in
# a task it makes no store on the local disk, which may be gone at the next run.
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
PASSED_PREFIXES = ("AIRFLOW_CTX_",)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")

# The connector's exit codes (README, Exit codes). All others are worth another try.
DONE, USAGE, SKIPPED, KEY_REFUSED, CONFIGURATION = 0, 2, 99, 77, 78
HOPELESS = (USAGE, KEY_REFUSED, CONFIGURATION)


class BeamerSegment(BaseOperator):
    """Runs one command of the connector for one connection; its JSON summary becomes the XCom.

    A run that has sent something updates the Asset `x-beamer-segment://<connection>`, on which other DAGs can
    be scheduled. When the task is stopped the command ends cleanly, with the page and the batch in hand.
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
        """Run the program to its end, as a list of words and never by a shell; the object it ends with."""
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
    """The names of the connections that are configured; also the first look at the store."""

    def execute(self, context: Any) -> list[str]:  # noqa: ARG002 - Airflow's signature
        return [each["connection"] for each in self.run(given(self.words))["connections"]]


def given(words: Iterable[str]) -> list[str]:
    """Without the options whose value, behind '=', is empty; a template makes None of what is not set."""
    return [word for word in words if word and not word.endswith(("=", "=None"))]


def environment() -> dict[str, str]:
    """What the program sees: the Extra of the Connection, and little else."""
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
    """The level of a log line; what is no JSON is an error told to people."""
    try:
        named = str(json.loads(line)["level"])
    except (ValueError, TypeError, KeyError):
        return logging.WARNING
    return logging.getLevelNamesMapping().get(named.upper(), logging.INFO)


def ended(code: int, out: str) -> dict[str, Any]:
    """The summary of a run that went well; otherwise what Airflow is to do about it."""
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
    """What the summary says went wrong; its sentences never hold a key."""
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
    # One that fails leaves the others alone. 75 (another run is at work on it) and a spent budget: skipped.
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
        "connection": Param("", type="string", description="Which of several connections."),
        "max_requests": Param(
            None, type=["null", "integer"], minimum=0, description="Spend at most so many."
        ),
        "share": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{1,3}%$",
            description="Spend at most this share of what is left of the month: 50%.",
        ),
        "integrations": Param(
            None,
            type=["null", "object"],
            description='Where history may go: {"All": false, "Amplitude": true}.',
        ),
        "everywhere": Param(False, type="boolean", description="Send it to every destination."),
        "dry_run": Param(False, type="boolean", description="Only estimate what it costs."),
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

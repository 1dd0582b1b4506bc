"""Each container of the manifests, run as it stands, on PostgreSQL, against the sandbox on loopback."""

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from connector.errors import Exit
from connector.state.tables import metadata
from tests.cli.process import Machine, until
from tests.places import manifests
from tests.places.cluster import Cluster
from tests.places.image import Image

pytestmark = pytest.mark.slow

ACCOUNTS = ("north", "south", "east", "west")


@pytest.fixture
def cluster(
    image: Image, machine: Machine, settings: dict[str, str], postgres_url: str, tmp_path: Path
) -> Cluster:
    machine.sandbox.more_keys.update(f"beamer-key-of-{name}" for name in ACCOUNTS)
    secret = {
        "beamer_api_key": machine.sandbox.api_key,
        "segment_write_key": machine.sandbox.write_key,
        # As most people write it, with the line's end that an editor leaves.
        "database_url": f"{postgres_url.replace('+psycopg', '')}\n",
        **{f"beamer_api_key_{name}": f"beamer-key-of-{name}" for name in ACCOUNTS},
    }
    return Cluster(image, tmp_path, secret, settings)


def test_the_cronjob_syncs(cluster: Cluster, machine: Machine) -> None:
    ended = cluster.run(manifests.pod("example", "CronJob"))
    assert ended.code == 0, ended.err
    assert ended.connection["connection"] == "default"
    machine.all_there_once()
    for secret in cluster.secret.values():
        assert secret.strip() not in ended.out + ended.err


def test_a_second_one_at_once_is_no_failure(cluster: Cluster, machine: Machine) -> None:
    pod = manifests.pod("example", "CronJob")
    # Long enough for another to start on a busy machine, and short of what is given up.
    machine.sandbox.faults.script("beamer", [("latency", 12.0)])
    first = cluster.start(pod)
    until(lambda: machine.asked() >= 1)
    second = cluster.run(pod)
    assert (second.code, second.connection["exit"]) == (0, Exit.BUSY), second.err
    assert first.end().code == 0
    machine.all_there_once()


def test_a_refused_key_fails_the_job_at_once(cluster: Cluster, machine: Machine) -> None:
    machine.sandbox.api_key = "another"
    ended = cluster.run(manifests.pod("example", "CronJob"))
    assert ended.code == Exit.REFUSED
    spec = manifests.job(manifests.find("example", "CronJob"))
    assert spec
    assert ended.code in spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]


def test_what_cannot_be_reached_is_mended_by_the_job_s_retry(cluster: Cluster, machine: Machine) -> None:
    # So often a run tries to deliver.
    machine.sandbox.faults.script("segment", [500] * 4)
    pod = manifests.pod("example", "CronJob")
    ended = cluster.run(pod)
    assert ended.code == Exit.UNREACHABLE, ended.err
    assert cluster.run(pod).code == 0
    machine.all_there_once()


def tables(url: str) -> set[str]:
    with psycopg.connect(url.strip()) as db:
        rows = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def test_the_migration_makes_the_tables_and_may_run_again(cluster: Cluster, machine: Machine) -> None:
    pod = manifests.pod("migrate", "Job")
    for _ in range(2):
        ended = cluster.run(pod)
        assert ended.code == 0, ended.err
    assert set(metadata.tables) <= tables(cluster.secret["database_url"])
    # It was given the database's address alone, and asked nobody.
    mounted = cluster.disk(pod) / "run/secrets/beamer-segment"
    assert [path.name for path in mounted.glob("[a-z]*")] == ["database_url"]
    assert machine.sandbox.requests == []


def test_the_backfill_brings_history(cluster: Cluster, machine: Machine) -> None:
    assert cluster.run(manifests.pod("example", "CronJob")).code == 0
    synced = len(machine.sandbox.segment.messages)
    pod = manifests.pod("backfill", "Job")
    ended = cluster.run(pod)
    assert ended.code == 0, ended.err
    assert ended.connection["backfill"]["finished_at"]
    assert ended.connection["backfill"]["integrations"] == {"All": False, "Amplitude": True}
    assert ended.connection["backfill"]["since"].startswith("2024-01-01")
    assert len(machine.sandbox.segment.messages) > synced
    # A Job's pod may be started twice.
    asked = machine.asked()
    assert cluster.run(pod).code == 0
    assert machine.asked() == asked


def test_shards_share_the_connections_out(cluster: Cluster) -> None:
    pod = manifests.pod("sharded", "CronJob")
    worked: list[str] = []
    for index in range(5):
        ended = cluster.run(pod, JOB_COMPLETION_INDEX=str(index))
        assert ended.code == 0, ended.err
        worked += [each["connection"] for each in ended.json["connections"]]
        assert ended.json["exit"] == 0
    assert sorted(worked) == sorted(ACCOUNTS)


# --- the daemon ---------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def probes(container: dict[str, Any], address: str) -> dict[str, int]:
    """The status that each probe gets; kubelet takes 200 to 399 for well. 0 where nobody answers."""
    (named,) = container["ports"]
    found = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == named["name"]
        url = f"http://{address}{container[probe]['httpGet']['path']}"
        try:
            found[probe] = httpx.get(url, timeout=container[probe].get("timeoutSeconds", 1), trust_env=False)
        except httpx.HTTPError:
            return {}
    return {name: answer.status_code for name, answer in found.items()}


def test_the_daemon_answers_its_probes_and_leaves_in_time(cluster: Cluster, machine: Machine) -> None:
    pod = manifests.pod("schedule", "Deployment")
    (bind,) = (each["value"] for each in pod.container["env"] if each["name"] == "CONNECTOR_BIND")
    number = pod.container["ports"][0]["containerPort"]
    assert bind == f"0.0.0.0:{number}"
    here = free_port()
    running = cluster.start(pod, CONNECTOR_BIND=bind.replace(str(number), str(here)))
    try:
        until(lambda: bool(probes(pod.container, f"127.0.0.1:{here}")) or running.over, 60)
        until(lambda: any('"job_ended"' in line for line in running.err) or running.over, 60)
        assert probes(pod.container, f"127.0.0.1:{here}") == {
            "startupProbe": 200,
            "livenessProbe": 200,
            "readinessProbe": 200,
        }
        assert re.search(
            r"^beamer_segment_", httpx.get(f"http://127.0.0.1:{here}/metrics").text, re.MULTILINE
        )
        running.process.send_signal(signal.SIGTERM)
        ended = running.end(pod.spec["terminationGracePeriodSeconds"])
    finally:
        running.kill()
    assert ended.code == 0, ended.err
    machine.all_there_once()
    assert all(json.loads(line) for line in ended.err.splitlines())


def test_a_daemon_whose_key_is_refused_is_alive_but_not_ready(cluster: Cluster, machine: Machine) -> None:
    pod = manifests.pod("schedule", "Deployment")
    machine.sandbox.api_key = "another"
    here = free_port()
    running = cluster.start(pod, CONNECTOR_BIND=f"0.0.0.0:{here}")
    try:
        until(lambda: any('"job_ended"' in line for line in running.err) or running.over, 60)
        found = probes(pod.container, f"127.0.0.1:{here}")
        assert (found["livenessProbe"], found["readinessProbe"]) == (200, 503)
    finally:
        running.process.send_signal(signal.SIGTERM)
        running.end(60)

"""`--metrics-file`: figures of one-shot runs for node-exporter."""

import stat
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connector.reporting.metrics import METRICS
from tests.cli.accounts import accounts
from tests.cli.conftest import Make
from tests.cli.process import Machine

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow


def read(file: Path) -> dict[str, float]:
    return {
        " ".join((sample.name.removeprefix("beamer_segment_"), *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def test_what_a_run_did(on_either: Machine) -> None:
    file = on_either.here / "beamer.prom"
    ended = on_either.run("sync", "--metrics-file", str(file), "--output", "json")
    assert ended.code == 0, ended.err
    found, did = read(file), ended.connection
    now = on_either.sandbox.now().timestamp()
    assert abs(found["last_success_timestamp_seconds default"] - now) < 3600
    assert found["last_run_exit_code default"] == found["suspended default"] == 0
    assert found["last_run_duration_seconds default"] > 0
    for stream, count in did["events"].items():
        assert found[f"events_total default {stream}"] == count
        assert found[f"events_sent_total default {stream}"] == count
        assert found[f"newest_row_delay_seconds default {stream}"] >= 0
        assert found[f"newest_row_timestamp_seconds default {stream}"] <= now
        assert found[f"complete_through_timestamp_seconds default {stream}"] > now - 3600
        assert found[f"counters_distrusted default {stream}"] == 0
    for stream, count in did["rows_new"].items():
        assert found[f"rows_total default {stream}"] == count
    held = dict.fromkeys(did["excluded"], 0.0)
    for name, value in found.items():
        if name.startswith("rows_excluded_total"):
            held[name.split()[2]] += value  # by connection, reason, stream
    assert held == did["excluded"]
    (account,) = {name.split()[1] for name in found if name.startswith("requests_total")}
    assert found[f"requests_total {account}"] == found[f"requests_used {account}"] == on_either.asked()
    assert f"requests_left {account}" not in found
    assert found["outbox_messages default"] == found["dead_letters default"] == 0


def test_a_limit_and_what_waits(machine: Machine) -> None:
    machine.extra["BEAMER_PLAN"] = "free"
    file = machine.here / "beamer.prom"
    ended = machine.run("sync", "--no-deliver", "--metrics-file", str(file), "--output", "json")
    found = read(file)
    (left,) = [value for name, value in found.items() if name.startswith("requests_left")]
    assert left == ended.connection["requests_left"] == 950 - machine.asked()
    assert found["outbox_messages default"] == ended.connection["waiting"] > 0
    assert found["outbox_oldest_timestamp_seconds default"] > 0


def test_a_run_that_fails_is_written_too(make: Make) -> None:
    machine = accounts(make, ("a", "b"))
    machine.extra["KEY_b"] = "of-somebody-else"
    file = machine.here / "beamer.prom"
    assert machine.run("sync", "--all", "--metrics-file", str(file)).code == 77
    found = read(file)
    assert (found["last_run_exit_code a"], found["last_run_exit_code b"]) == (0, 77)
    assert (found["suspended a"], found["suspended b"]) == (0, 1)
    assert found["last_success_timestamp_seconds b"] == 0


def test_a_reader_never_sees_half_of_it_and_others_may_read_it(machine: Machine) -> None:
    file, over = machine.here / "beamer.prom", Event()
    assert machine.run("sync", "--metrics-file", str(file)).code == 0
    whole: set[str] = set()

    def watch() -> None:
        while not over.is_set():
            whole.add(file.read_text()[-40:])

    watcher = Thread(target=watch)
    watcher.start()
    for _ in range(3):
        machine.run("sync", "--metrics-file", str(file))
    over.set()
    watcher.join()
    assert all(end.endswith('"} 1.0\n') for end in whole), whole
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [each.name for each in machine.here.glob("*beamer.prom*")] == ["beamer.prom"]


def test_a_file_that_cannot_be_written_is_a_warning(machine: Machine) -> None:
    ended = machine.run("sync", "--metrics-file", str(machine.here / "no" / "such" / "folder.prom"))
    assert ended.code == 0
    assert "metrics_file_not_written" in ended.err


def test_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert metric.full_name.startswith("beamer_segment_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)

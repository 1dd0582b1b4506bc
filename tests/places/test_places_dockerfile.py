"""The Dockerfile says what it must, and names only what is there."""

import http.server
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from connector import __version__
from tests.places.dockerfile import ROOT, context, dockerfile, only, stages

PINNED = re.compile(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?")


def test_two_stages_on_one_pinned_base() -> None:
    build, (base,) = (stage[0].words for stage in stages())
    assert build == [base, "AS", "build"]
    assert PINNED.fullmatch(base)


def test_the_base_has_a_python_that_is_tested() -> None:
    tag = dockerfile()[0].words[0].partition(":")[2]
    minor = ".".join(tag.split(".")[:2])
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {minor}" in known


def test_what_is_copied_is_there_and_let_in() -> None:
    copied = {
        name for each in dockerfile() if each.name == "COPY" for name in each.words[:-1] if name[0] != "-"
    }
    bound = set(re.findall(r"type=bind,source=([^,]+)", " ".join(each.rest for each in dockerfile())))
    assert copied | bound == set(context())
    for name in context():
        assert (ROOT / name).exists(), name


def test_what_is_installed_is_the_wheel_at_tested_versions() -> None:
    (build,) = (each.rest for each in stages()[0] if each.name == "RUN")
    assert build == "pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ."
    install = next(each.rest for each in stages()[1] if each.name == "RUN")
    assert "from=build,source=/wheels" in install
    assert "--constraint /build/constraints.txt" in install
    assert "*.whl)[postgres]" in install


def test_nobody_is_root_and_no_key_is_in_it() -> None:
    last = stages()[-1]
    assert only("USER").rest == "10001:10001"
    assert "--uid 10001" in next(each.rest for each in last if "useradd" in each.rest)
    # Nothing behind USER could write, nor does anything want to.
    assert [each.name for each in last[[each.name for each in last].index("USER") :]] == [
        "USER",
        "WORKDIR",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ]
    assert not [each for each in dockerfile() if each.name == "ARG"]
    assert [each.rest for each in dockerfile() if each.name == "ENV"] == ["PYTHONUNBUFFERED=1"]
    assert only("ENTRYPOINT").listed == ["beamer-segment"]


def test_the_tag_that_is_shown_is_this_version() -> None:
    shown = re.findall(r"beamer-segment:(\d\S*)", (ROOT / "Dockerfile").read_text())
    assert set(shown) == {__version__}


# --- the health check ------------------------------------------------------------------------------------


@contextmanager
def served(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def healthy(here: Path, command: str, bind: str | None) -> int:
    """The health check's exit code in a container whose first process is `command`."""
    python, dash, program = only("HEALTHCHECK").listed
    assert (python, dash) == ("python", "-c")
    first = here / "cmdline"
    first.write_bytes(b"\0".join(word.encode() for word in ["python", "beamer-segment", *command.split()]))
    assert "/proc/1/cmdline" in program
    # A proxy is for the way out, not for the way to oneself.
    environ = {"http_proxy": "http://127.0.0.1:1", **({"CONNECTOR_BIND": bind} if bind else {})}
    program = program.replace("/proc/1/cmdline", str(first))
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_schedule_is_asked_how_it_is(tmp_path: Path, status: int, code: int) -> None:
    with served(status) as port:
        assert healthy(tmp_path, "schedule", f"0.0.0.0:{port}") == code
        assert healthy(tmp_path, "schedule --shard 0/2", f"127.0.0.1:{port}") == code
    assert healthy(tmp_path, "schedule", f"0.0.0.0:{port}") == 1


@pytest.mark.parametrize(("command", "bind"), [("sync --all", None), ("schedule", "none")])
def test_what_serves_nothing_is_well_as_long_as_it_runs(
    tmp_path: Path, command: str, bind: str | None
) -> None:
    assert healthy(tmp_path, command, bind) == 0

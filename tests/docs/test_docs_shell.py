"""Each shell example of the README, the tutorials and the how-to pages runs against the sandbox, in order."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector.sandbox import environment
from tests.cli.process import Machine, made_up
from tests.cli.terminal import Terminal
from tests.docs.sections import README, ROOT
from tests.docs.test_docs_examples import FENCE, shell_lines

PAGES = (
    README,
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
)

# What a line needs that a test has not, and what tries it instead. All other lines are run.
NOT_RUN = {
    r"pipx install|git pull|python3 -m venv": "a package index; tests/places installs the wheel into a venv",
    r"make (?:demo|test)": "these tests themselves",
    r"airflow |cp config/airflow": "Airflow; tests/airflow runs the DAGs in one",
    r"docker build|docker compose (?:build|stop|up)": "a container engine; tests/places reads both files",
    r"kubectl (?!apply -[fk] config|.* exec )": "a cluster; tests/places reads the manifests",
    r"useradd|journalctl|.*systemctl": "root, and a machine that systemd runs; tests/places reads the units",
    r"curl": "Segment's Public API",
}
# How a line reads in a test: a pattern, and what replaces it. {…} is filled in from the test.
HERE = (
    (r"^(?:[\d*/,-]+ ){5}", ""),  # cron's five fields
    (r"^(?:runuser -u \S+|kubectl .* exec \S+) -- |^docker compose exec connector ", ""),
    (r"^docker compose run --rm connector ", "beamer-segment "),
    (r"^docker run .*--env-file (\S+) \S+:\S+ (\w+)$", r"env $(cat \1) beamer-segment \2"),
    (r"^kubectl apply -[fk] (\S+)$", r"test -e \1"),
    (r"^install -o \S+", "install"),
    (r"\S+/bin/beamer-segment", "beamer-segment"),
    (r"(?<![\w~}])/(?=(?:etc|var|run)/)", "{here}/"),
    (r"=…$", "=made-up"),
    (r"postgresql://user@host/name", "{postgres}"),
    (r"\bROW\b", "{row}"),
    (r"2024-03-15", "{today}"),
    # Without a terminal they do not ask.
    (r"(beamer-segment (?:forget|backfill) (?!.*--dry-run).*)", r"\1 --yes"),
    # A setting by itself.
    (r"^([A-Z_]+=\S+)$", r"\1 beamer-segment config show"),
    (r"^(beamer-segment sandbox .*)$", r"\1 --port 0"),
)
# What serves until it is stopped, and what it prints when it does.
SERVES = {r"beamer-segment sandbox": "export SEGMENT_HOST", r".*beamer-segment schedule": "schedule_started"}
# The beginnings of what `init` asks.
QUESTIONS = (
    "API key",
    "write key",
    "region",
    "plan [",
    "month begins",
    "Requests used",
    "Streams [",
    "from this",
)


def lines_of(page: Path) -> list[str]:
    return [line for line in shell_lines(page.read_text(encoding="utf-8")) if line]


def not_run(line: str) -> str | None:
    """Return the pattern of NOT_RUN that a line begins with."""
    return next((pattern for pattern in NOT_RUN if re.match(pattern, line)), None)


def test_each_reason_not_to_run_a_line_is_needed() -> None:
    assert {not_run(line) for page in PAGES for line in lines_of(page)} - {None} == {*NOT_RUN}


@dataclass
class Shell:
    """A folder like a clone of the repository, and this user's home, in which the lines of a page run."""

    machine: Machine
    words: dict[str, str]
    answers: Mapping[str, str]

    @property
    def here(self) -> Path:
        return self.machine.here

    def environment(self) -> dict[str, str]:
        found = self.machine.environment()
        return {
            **found,
            "PATH": f"{self.here}/bin:{found['PATH']}",
            "LOG_FORMAT": "json",
            "CONNECTOR_BIND": "none",
        }

    def line(self, line: str) -> str:
        for pattern, instead in HERE:
            line = re.sub(pattern, instead, line)
        for name, value in self.words.items():
            line = line.replace(f"{{{name}}}", value)
        return line

    def run(self, line: str) -> None:
        line = self.line(line)
        if re.match(r"beamer-segment init(?! --)", line):
            self.answer(self.answers)
        elif marker := next((text for start, text in SERVES.items() if re.match(start, line)), None):
            self.serve(line, marker)
        else:
            command = ["bash", "-euo", "pipefail", "-c", line]
            key = "sandbox-key\n" if "beamer" in line else "sandbox-write-key\n"
            ended = subprocess.run(
                command,
                cwd=self.here,
                env=self.environment(),
                input=key,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert ended.returncode == 0, f"{line}: {ended.returncode}\n{ended.stdout}{ended.stderr}"

    def answer(self, answers: Mapping[str, str]) -> None:
        """Give both keys and these answers to the questions of `init`, and press Enter for every default."""
        keys = {"API key": self.machine.sandbox.api_key, "write key": self.machine.sandbox.write_key}
        with Terminal(self.machine, ("init",)) as terminal:
            for question in QUESTIONS:
                terminal.answer(question, {**keys, **answers}.get(question, ""), hidden="key" in question)
            terminal.answer("Send one test event", "")
            assert terminal.end() == 0, terminal.shown
        # From now on every command reads the file.
        assert (self.here / ".config/beamer-segment/beamer-segment.env").exists()

    def serve(self, line: str, marker: str) -> None:
        """Start what serves, wait until it does, and stop it."""
        with subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.here,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout
            shown: list[str] = []
            while not shown or marker not in shown[-1]:
                shown.append(process.stdout.readline())
                assert shown[-1], (line, shown)
            process.send_signal(signal.SIGTERM)
            shown += process.stdout
        assert process.returncode in (0, 128 + signal.SIGTERM if "sandbox" in line else 0), (line, shown)


@pytest.fixture
def shell(tmp_path: Path, postgres_url: str) -> Iterator[Shell]:
    box = made_up(plan="free")
    with box.serve() as served:
        settings = environment(served, box)
        # What only the sandbox needs is in the environment, everything else is as the page says.
        only = {name: settings[name] for name in ("BEAMER_BASE_URL", "SEGMENT_HOST")}
        empty = (*settings, "BEAMER_START_DATE", "XDG_STATE_HOME")
        machine = Machine(box, served, tmp_path, extra={**dict.fromkeys(empty, ""), **only})
        program = tmp_path / "bin" / "beamer-segment"
        write(
            program, f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {shlex.quote(sys.executable)} -m connector "$@"\n'
        )
        program.chmod(0o755)
        shutil.copytree(ROOT / "config", tmp_path / "config")
        today, row = f"{box.now():%Y-%m-%d}", box.world.rows("nps")[-1].id
        yield Shell(
            machine, {"here": str(tmp_path), "postgres": postgres_url, "row": row, "today": today}, {}
        )


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)


def prepare(shell: Shell, page: Path) -> None:
    """Put there what a page expects: keys, the files that it shows or that stand before its examples."""
    box, lines = shell.machine.sandbox, "\n".join(lines_of(page))
    keys = f"BEAMER_API_KEY={box.api_key}\nSEGMENT_WRITE_KEY={box.write_key}\nBEAMER_PLAN=free\n"
    state = f"DATABASE_URL=sqlite:///{shell.here}/state.sqlite\n"
    write(shell.here / "beamer-segment.docker.env", keys + state)
    write(shell.here / "run/secrets/segment_public_api_token", "made-up")
    for folder in ("var/lib/node_exporter", "etc/systemd/system"):
        (shell.here / folder).mkdir(parents=True)
    if "beamer-segment init" not in lines:
        write(shell.here / ".config/beamer-segment/beamer-segment.env", keys)
    if "--config" in lines:
        accounts = (ROOT / "docs/how-to/many-accounts.md").read_text(encoding="utf-8")
        shown = next(text for language, text in FENCE.findall(accounts) if language == "toml")
        for name in ("connector.toml", "etc/beamer-segment/connector.toml"):
            write(shell.here / name, shown.replace("/run/", f"{shell.here}/run/"))
        for name in ("eu", "us"):
            shell.machine.extra[f"BEAMER_API_KEY_{name.upper()}"] = box.api_key
            write(shell.here / f"run/secrets/segment_write_key_{name}", f"{box.write_key}-{name}")
            box.segment.write_keys |= {f"{box.write_key}-{name}"}
    if page.parent.name == "how-to":
        # It begins with an account that is in use.
        shell.run("beamer-segment sync" + " --all --config connector.toml" * ("--config" in lines))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if lines_of(page)], ids=lambda page: page.stem)
def test_the_examples_of_a_page_succeed(page: Path, shell: Shell) -> None:
    shell.answers = {"Streams [": "nps"} if page.parent.name == "tutorial" else {}
    prepare(shell, page)
    for line in lines_of(page):
        if not not_run(line):
            shell.run(line)

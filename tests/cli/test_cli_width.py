"""Every command on a terminal of 80 columns: no line is wider, no word is cut, and one thing is no plural."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cli.process import SMALL, Machine, made_up
from tests.cli.terminal import LAUNCH, Terminal
from tests.cli.test_cli_looking import refuse
from tests.docs.sections import commands

# Many commands in one process.
pytestmark = pytest.mark.slow

COLUMNS = 80
ONE, OTHER = (f"connection_{word}_with_forty_letters_in_it"[:40].ljust(40, "x") for word in ("one", "other"))
CONFIG = f"""
api_key_env = "BEAMER_API_KEY"
write_key_env = "SEGMENT_WRITE_KEY"
[[connections]]
name = "{ONE}"
streams = ["nps"]
[[connections]]
name = "{OTHER}"
streams = ["posts", "comments", "reactions", "feature_requests", "feature_request_votes"]
"""
# At each command's end a mark that no command prints. What looks is run a second time, into a file.
DRIVE = (
    LAUNCH.rpartition("os.execv")[0]
    + """
import json
from connector.cli import main
terminal = sys.stdout, sys.stderr
for number, (words, again) in enumerate(json.loads(sys.argv[1])):
    sys.argv[1:] = words
    for folder in ("", sys.argv[0])[: again + 1]:
        if folder:
            sys.stdout = sys.stderr = open(os.path.join(os.environ["HOME"], f"{number}.out"), "w")
        try:
            main()
        except SystemExit:
            pass
        sys.stdout.flush()
        sys.stdout, sys.stderr = terminal
    print("\\x1e", flush=True)
"""
)
# Colours and what moves the cursor; a spinner's frames begin with a carriage return.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COPIED = re.compile(r'\s*(?:["{}\]]|17 \* \* \* \* |/\S* -m connector |export )')
ONE_THING = re.compile(
    r"(?<![\d,.-])1 (?:[a-z]+ )?(?:streams|requests|rows|lists|events|messages|runs|connections|hours)\b"
)
WORD = re.compile(r"[A-Za-z_]{3,}")


@dataclass(frozen=True)
class Shown:
    """What a command printed on the terminal, and into a file if it was run a second time."""

    words: str
    lines: list[str]
    filed: str | None


def looking(row: str, user: str) -> list[str]:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return [
        *("status", "streams", "runs", f"runs --connection {ONE}", "quota", "outbox", "outbox list --dead"),
        *(f"explain {row}", f"explain {user}", f"explain {today}", "explain nothing"),
        *("config show", "events", "sync --dry-run --all", "state repair --dry-run"),
        *(f"check --offline --connection {OTHER}", "audit --all --dry-run", "outbox show 16", "verify"),
        *(f"state reset --stream nps --dry-run --connection {ONE}", "sync --since 2024-01-01", "run", "sync"),
        *("sync --connection nobody", "status --env-file nowhere.env", "backfill --since 2040-01-01"),
    ]


def every_command(folder: Path, row: str, user: str) -> list[tuple[str, bool]]:
    """The command lines, in their order; of each whether it only looks."""
    one = f"--connection {ONE}"
    working = [
        *("check " + one, "sync --all --no-deliver", "outbox", "sync --all", "audit --all --max-requests 3"),
        *(f"backfill --since 2024-01-01 --dry-run {one}", f"backfill --since 2024-01-01 --yes {one}"),
        f"sync --dry-run --sample 2 {one}",
        f"hint --stream nps {one}",
    ]
    ending = [
        *(
            "quota set-used 1 " + one,
            "state accept-keys --all",
            "db upgrade",
            f"report --html {folder}/report.html",
        ),
        *(f"state export {folder}/one.state {one}", f"state import {folder}/one.state"),
        *(f"state reset --stream nps --yes {one}", "state repair", f"forget --user-id {user} --yes"),
        *("outbox retry --all", "outbox drop --all --yes", "sandbox --plan none", "schedule --bind nowhere"),
        f"init --non-interactive --env-file {folder}/new.env",
        "demo",
    ]
    helps = [path.partition(" ")[2] + " --help" for path, _ in commands()]
    lines = [("status", True), *((line, False) for line in working)]
    lines += [(line, True) for line in looking(row, user)] + [(line, False) for line in [*ending, *helps]]
    return lines


def shown(machine: Machine, lines: list[tuple[str, bool]]) -> Iterator[Shown]:
    words = json.dumps([(line.split(), again) for line, again in lines])
    with Terminal(machine, (words,), COLUMNS, DRIVE) as terminal:
        assert terminal.end() == 0, terminal.shown
        parts = CONTROL.sub("", terminal.shown).split("\x1e")
    for number, ((line, again), text) in enumerate(zip(lines, parts, strict=False)):
        file = machine.here / f"{number}.out"
        yield Shown(line, re.split(r"[\r\n]", text.strip("\n")), file.read_text() if again else None)


def test_every_command_fits_a_terminal_of_80_columns() -> None:
    # In a folder with a short name, wherever $TMPDIR is: a path that is longer than a line has to be cut.
    box = made_up(SMALL)
    with box.serve() as served, TemporaryDirectory(dir="/tmp") as folder:
        machine = Machine(box, served, Path(folder))
        for command in printed(machine):
            text = "\n".join(command.lines)
            wide = [line for line in command.lines if len(line) > COLUMNS and not COPIED.match(line)]
            assert wide == [], command.words
            assert "Traceback" not in text, text
            assert not re.search(r"\w…(?:\s|$)", text), (command.words, "is cut")
            for output in (text, command.filed or ""):
                assert not ONE_THING.search(output), (command.words, ONE_THING.search(output))
            if command.filed is not None:
                cut = set(WORD.findall(text)) ^ set(WORD.findall(command.filed))
                # The names of columns that go below their row, where all rows have nothing in them.
                assert cut <= {"why", "answer"}, command.words


def printed(machine: Machine) -> list[Shown]:
    """Run every command with two connections, some messages refused, and rows of all kinds."""
    (machine.here / "connector.toml").write_text(CONFIG)
    machine.extra |= {"CONNECTOR_CONFIG": str(machine.here / "connector.toml"), "BEAMER_PLAN": "pro"}
    refuse(machine, "Feature Request Submitted")
    row = machine.sandbox.world.rows("nps")[-1]
    lines = every_command(machine.here, row.id, row.fields["userId"])
    found = list(shown(machine, lines))
    assert len(found) == len(lines)
    return found


def test_each_command_is_among_them() -> None:
    lines = [line for line, _ in every_command(Path("/"), "1", "u1") if "--help" not in line]
    for path, context in commands():
        name = path.partition(" ")[2]
        if not hasattr(context.command, "commands"):
            assert any(f"{line} ".startswith(f"{name} ") for line in lines), name

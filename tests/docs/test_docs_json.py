"""Every command has a JSON Schema, its file shows what the tests hold it against, and its output agrees."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from jsonschema import Draft202012Validator

from connector.cli.app import app
from connector.cli.output import document
from tests.cli.process import Machine, made_up
from tests.docs.json_schemas import FOLDER, FORMS, file_of, schema, violations, written
from tests.docs.sections import commands

TAKES_OUTPUT = {
    path.partition(" ")[2]
    for path, context in commands()
    if any("--output" in parameter.opts for parameter in context.command.params)
}


def test_every_command_has_a_schema() -> None:
    assert {*FORMS} == TAKES_OUTPUT


@pytest.mark.parametrize("command", FORMS)
def test_a_schema_is_valid_and_its_file_up_to_date(command: str) -> None:
    Draft202012Validator.check_schema(schema(command))
    if os.environ.get("UPDATE_DOCS"):
        file_of(command).write_text(written(command), encoding="utf-8")
    assert file_of(command).read_text(encoding="utf-8") == written(command), (
        "Run: UPDATE_DOCS=1 make docs-check"
    )


def test_there_is_no_other_file() -> None:
    assert {*FOLDER.iterdir()} == {*map(file_of, FORMS)}


# --- outputs --------------------------------------------------------------------------------------------

STREAM = {
    "stream": "nps",
    "use": "sent",
    "rows": 1,
    "counters_trusted": None,
    "key": "may read",
    "requests_a_poll": 1,
}
STREAMS = document(
    "streams", 0, {"connections": [{"connection": "a", "streams": [STREAM], "requests_a_poll": 1}]}
)
SPOILED: list[Callable[[Any], object]] = [
    lambda found: found.pop("schema_version"),
    lambda found: found.pop("connections"),
    lambda found: found.update(more=1),
    lambda found: found["connections"][0].pop("connection"),
    lambda found: found["connections"][0]["streams"][0].update(more=1),
    lambda found: found["connections"][0]["streams"][0].update(rows="1"),
    lambda found: found["connections"][0]["streams"][0].update(use="perhaps"),
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_differs_from_a_schema_is_noticed(spoil: Callable[[Any], object]) -> None:
    assert not [*violations(STREAMS)]
    spoilt = copy.deepcopy(STREAMS)
    spoil(spoilt)
    assert [*violations(spoilt)]


# In this order, on one database, each with --output json. The others are run as processes elsewhere.
WORDS = (
    *("status", "streams", "explain 1", "explain 2026-11-01", "runs", "quota", "outbox"),
    *("sync --dry-run", "sync --dry-run --sample 2", "check", "sync --no-deliver", "outbox", "outbox show 1"),
    *(
        "hint --stream comments --post-id 1",
        "sync",
        "audit --max-requests 3",
        "audit --dry-run",
        "status",
        "streams",
        "quota",
        "runs",
    ),
    *(
        "verify",
        "explain 1",
        "explain {day}",
        "quota set-used 300",
        "config show",
        "report --html {here}/report.html",
    ),
    *("backfill --since 2026-01-01 --dry-run", "backfill --since 2026-01-01 --max-requests 3 --yes"),
    *("status", "state export {here}/exported", "state accept-keys", "state reset --stream nps --yes"),
    *("state repair --dry-run", "forget --user-id u1 --yes", "outbox retry --all", "outbox drop --all --yes"),
    *("db upgrade", "events", "events --format jsonschema", "events --format tracking-plan"),
    *("init --non-interactive --no-send-test", "state import {here}/exported"),
)
# These serve, or take seconds: what they print is held elsewhere (Machine.run), or is this.
ELSEWHERE: dict[str, dict[str, Any] | None] = {
    "demo": None,
    "schedule": {"drained": True},
    "sandbox": {"environment": {"A": "b"}},
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    sandbox = made_up()
    sandbox.world.add("nps", id="", score="7", userId="u")
    with sandbox.serve() as served:
        machine = Machine(sandbox, served, tmp_path, extra={"BEAMER_PLAN": "free", "LOG_LEVEL": "error"})
        for name in [name for name in os.environ if name.startswith(("BEAMER_", "SEGMENT_", "CONNECTOR_"))]:
            monkeypatch.delenv(name)
        for name, value in machine.environment().items():
            monkeypatch.setenv(name, value)
        yield machine
    structlog.reset_defaults()


def test_every_command_prints_what_its_schema_says(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: thirty of their own would take half a minute."""
    printed = set()
    for words in WORDS:
        if words.startswith("state import"):
            monkeypatch.setenv("DATABASE_URL", f"sqlite:///{machine.here}/other.sqlite")
        filled = words.format(here=machine.here, day=f"{machine.sandbox.now():%Y-%m-%d}")
        code = app([*filled.split(), "--output", "json"], prog_name="beamer-segment", standalone_mode=False)
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (found["exit"], [*violations(found)]) == (code, []), words
        printed.add(found["command"])
    assert printed == FORMS.keys() - ELSEWHERE
    for command, data in ELSEWHERE.items():
        assert data is None or not [*violations(document(command, 0, data))]

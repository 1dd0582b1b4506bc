"""`init`: asked at a terminal, checked, and written for nobody else's eyes."""

import re
import shlex
import stat
from pathlib import Path

import pytest

from tests.cli.process import Ended, Machine
from tests.cli.terminal import CTRL_C, CTRL_D, Terminal

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

QUESTIONS = (
    *("Beamer's API key", "write key", "region", "Beamer's plan [", "month begins", "Requests used"),
    *("Streams [", "from this date on"),
)


@pytest.fixture
def new(machine: Machine) -> Machine:
    """A machine on which nothing is set but where the two APIs are."""
    machine.sandbox.api_key, machine.sandbox.write_key = "b_key_nobody_may_see", "w_key_nobody_may_see"
    machine.sandbox.segment.write_keys = {machine.sandbox.write_key}
    for name in ("BEAMER_API_KEY", "SEGMENT_WRITE_KEY", "BEAMER_PLAN", "BEAMER_START_DATE"):
        machine.extra[name] = ""
    return machine


def file_of(machine: Machine) -> Path:
    return machine.here / "my settings.env"


def at_terminal(machine: Machine, *words: str) -> Terminal:
    return Terminal(machine, ("init", "--env-file", str(file_of(machine)), *words))


def answer_all(terminal: Terminal, machine: Machine, *, region: str = "eu", send: str = "") -> None:
    keys = (machine.sandbox.api_key, machine.sandbox.write_key)
    answers = (*keys, region, "free", "9", "123", "posts, nps", "2026-01-01")
    for question, text in zip(QUESTIONS, answers, strict=True):
        terminal.answer(question, text, hidden="key" in question)
    terminal.answer("Send one test event", send)


def left(machine: Machine) -> list[str]:
    """What lies on its disk, hidden files too."""
    return sorted(each.name for each in machine.here.iterdir() if each.name != "state")


def test_a_first_sync_goes_by_what_was_asked(new: Machine) -> None:
    """By default the answers go into a folder of this user's own, where every command finds them."""
    with Terminal(new, ("init",)) as terminal:
        answer_all(terminal, new)
        assert terminal.end() == 0, terminal.shown
        shown = terminal.shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert [line for line in lines if len(line) > 80 and "connector sync" not in line] == []
    file = new.here / ".config" / "beamer-segment" / "beamer-segment.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert left(new) == [".config"]
    for key in (new.sandbox.api_key, new.sandbox.write_key):
        assert key not in shown
        assert key in file.read_text()
    # It was checked, with one test event, and the way to look for it is told.
    assert "The key may read it" in shown
    assert [each["event"] for each in new.sandbox.segment.messages] == ["Beamer Connector Tested"]
    assert "cannot detect a wrong write key" in shown
    assert "Debugger" in shown
    assert "BEAMER_BASE_URL" in shown, "what is set in the shell alone is named"
    # The lines work as they are printed; cron's five fields come before the second.
    first_sync, crontab = shown.strip().splitlines()[-2:]
    assert crontab.startswith("17 * * * * ")
    assert shlex.split(first_sync)[-1] == "sync"
    assert shlex.split(crontab)[-2:] == ["sync", "--quiet"]
    assert "--env-file" not in first_sync + crontab
    ended = new.run("sync", "--output", "json")
    assert ended.code == 0, ended.err
    assert ended.connection["start_date"].startswith("2026-01-01")
    account = new.run("quota", "--output", "json").json["accounts"][0]
    assert account["used"] == 123 + new.asked()
    assert account["period_day"] == 9
    shown_settings = new.run("config", "show").out
    for value in ("posts, nps", "eu", "free"):
        assert value in shown_settings


def test_what_cannot_be_used_is_asked_for_again_without_being_said(new: Machine) -> None:
    with at_terminal(new) as terminal:
        terminal.answer("Beamer's API key", "'quoted_key_nobody_may_see'", hidden=True)
        terminal.wait_for("the quotes became part")
        terminal.answer("Beamer's API key", "   ", hidden=True)
        terminal.answer("Beamer's API key", new.sandbox.api_key, hidden=True)
        terminal.answer("write key", new.sandbox.write_key, hidden=True)
        terminal.answer("region", "asia")
        terminal.wait_for("neither us nor eu")
        terminal.answer("region", "")
        terminal.wait_for("20,000 a month, more are billed")
        terminal.answer("Beamer's plan [", "gold")
        terminal.wait_for("is not a plan")
        terminal.answer("Beamer's plan [", "")
        terminal.answer("month begins", "32")
        terminal.wait_for("is not a number from 1 to 31")
        terminal.answer("month begins", "")
        terminal.answer("Requests used", "many")
        terminal.wait_for("is not a number")
        terminal.answer("Requests used", "")
        terminal.wait_for("only NPS")
        terminal.answer("Streams [", "npz")
        terminal.wait_for("did you mean 'nps'? Please")
        terminal.answer("Streams [", "")
        terminal.answer("from this date on", "2040-01-01")
        terminal.wait_for("is in the future")
        terminal.answer("from this date on", "")
        terminal.answer("Send one test event", "n")
        assert terminal.end() == 0, terminal.shown
        assert "nobody_may_see" not in terminal.shown
    written = [line for line in file_of(new).read_text().splitlines() if not line.startswith("#")]
    assert written == [
        f"BEAMER_API_KEY={new.sandbox.api_key}",
        f"SEGMENT_WRITE_KEY={new.sandbox.write_key}",
        "SEGMENT_REGION=us",
        "BEAMER_PLAN=free",
    ]
    assert new.sandbox.segment.messages == []


@pytest.mark.parametrize("answered", range(len(QUESTIONS) + 1))
@pytest.mark.parametrize(("sign", "code"), [(CTRL_C, 130), (CTRL_D, 1)])
def test_it_can_be_left_at_any_question(new: Machine, answered: int, sign: str, code: int) -> None:
    with at_terminal(new) as terminal:
        for question in QUESTIONS[:answered]:
            hidden = "key" in question
            terminal.answer(question, "b_key_nobody_may_see" if hidden else "", hidden=hidden)
        terminal.wait_for(waited_for := (*QUESTIONS, "Send one test event")[answered])
        if "key" in waited_for:
            terminal.wait_for_silence()
        terminal.type(sign)
        assert terminal.end() == code, terminal.shown
        assert "Traceback" not in terminal.shown
    assert list(new.here.iterdir()) == []
    assert new.sandbox.requests == []


def test_a_refused_key_is_written_only_if_that_is_wanted(new: Machine) -> None:
    for answer, code, files in (("", 1, []), ("y", 77, [file_of(new).name])):
        with at_terminal(new) as terminal:
            terminal.answer("Beamer's API key", "of_somebody_else", hidden=True)
            terminal.answer("write key", new.sandbox.write_key, hidden=True)
            for question in QUESTIONS[2:]:
                terminal.answer(question, "")
            terminal.answer("Send one test event", "n")
            terminal.answer("Write the file anyway?", answer)
            assert terminal.end() == code, terminal.shown
            assert "of_somebody_else" not in terminal.shown
        assert left(new) == files


def test_a_file_that_is_there_is_kept_unless_forced(new: Machine) -> None:
    file = file_of(new)
    file.write_text("BEAMER_API_KEY=the-old-one\n")
    with at_terminal(new) as terminal:
        assert terminal.end() == 2
        assert "--force" in terminal.shown
    assert file.read_text() == "BEAMER_API_KEY=the-old-one\n"
    with at_terminal(new, "--force") as terminal:
        answer_all(terminal, new, send="n")
        assert terminal.end() == 0
    assert "the-old-one" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_a_terminal_it_says_what_to_write(new: Machine) -> None:
    ended = new.run("init", "--env-file", str(file_of(new)))
    assert ended.code == 2
    for named in (
        "--non-interactive",
        str(file_of(new)),
        "BEAMER_API_KEY=",
        "SEGMENT_WRITE_KEY=",
        "config show",
        "chmod 600",
    ):
        assert named in ended.err
    assert list(new.here.iterdir()) == []


def test_a_folder_that_is_not_there(new: Machine) -> None:
    with Terminal(new, ("init", "--env-file", str(new.here / "no" / "such.env"))) as terminal:
        assert terminal.end() == 2
        assert "There is no folder" in terminal.shown


# --- without questions ----------------------------------------------------------------------------------


def scripted(machine: Machine, *words: str) -> Ended:
    return machine.run("init", "--non-interactive", "--output", "json", *words)


def test_everything_may_be_an_option(new: Machine, tmp_path: Path) -> None:
    key = tmp_path / "beamer key"
    key.write_text(new.sandbox.api_key)
    new.extra |= {"BEAMER_API_KEY_FILE": str(key), "SEGMENT_WRITE_KEY": new.sandbox.write_key}
    words = ("--plan", "starter", "--stream", "nps", "--stream", "posts", "--start-date", "2026-01-01")
    ended = scripted(new, *words, "--period-day", "9", "--used", "77", "--region", "eu")
    assert ended.code == 0, ended.err
    file = Path(ended.json["file"])
    assert [line for line in file.read_text().splitlines() if not line.startswith("#")] == [
        f"BEAMER_API_KEY_FILE={key}",
        f"SEGMENT_WRITE_KEY={new.sandbox.write_key}",
        "SEGMENT_REGION=eu",
        "BEAMER_PLAN=starter",
        "BEAMER_PERIOD_DAY=9",
        "BEAMER_STREAMS=nps,posts",
        "BEAMER_START_DATE=2026-01-01",
    ]
    assert new.sandbox.segment.messages == []
    assert "--env-file" in ended.json["first_sync"], "a key in this shell comes before the file"
    assert "--env-file" not in ended.json["crontab"]
    new.extra |= {"BEAMER_API_KEY_FILE": "", "SEGMENT_WRITE_KEY": ""}
    found = new.run("check", "--offline", "--output", "json").json["findings"]
    assert any(str(file) in finding["found"] for finding in found)
    file.chmod(0o640)
    ended = new.run("check")
    assert (ended.code, f"chmod 600 {file}" in ended.err) == (78, True)
    new.extra |= {"BEAMER_API_KEY": new.sandbox.api_key, "SEGMENT_WRITE_KEY": new.sandbox.write_key}
    assert f"chmod 600 {file}" in new.run("check", "--offline").out, "also if it is not read"


def test_nothing_is_written_of_what_fails(new: Machine) -> None:
    assert "BEAMER_API_KEY is not set" in scripted(new).err
    new.extra |= {"BEAMER_API_KEY": "of_somebody_else", "SEGMENT_WRITE_KEY": new.sandbox.write_key}
    assert "'gold' is not a plan" in scripted(new, "--plan", "gold").err
    ended = scripted(new, "--send-test")
    assert (ended.code, ended.json["file"], left(new)) == (77, None, [])

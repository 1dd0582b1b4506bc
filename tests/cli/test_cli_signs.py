"""Signs that a terminal obeys or hides: none of them leaves the program as it came."""

import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout

import pytest
import structlog
from sqlalchemy import update

from connector import logs
from connector.cli import output
from connector.daemon.http import text_page
from connector.errors import ConnectorError
from connector.logs import Redaction
from connector.reporting.rendering import Screen, finding_lines
from connector.reporting.report_page import escape
from connector.state.tables import outbox
from connector.text import one_line, printable
from tests.cli.conftest import Make
from tests.cli.process import Machine
from tests.cli.terminal import Terminal

EVERY = [chr(number) for number in range(0x110000)]
TURNING = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
# Signs of the category "format" that can be seen.
SEEN = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001345f]")
HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07 \x9b2J\x08\x7f\r\x0b\x85 "
    "\u202eright\u2066\u2069\u200e\u061c \u200b\ufeff\u2028\u2029"
)
# What none of them may leave behind; a newline and a tab are layout.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u061c\ufeff]")


def is_hostile(sign: str) -> bool:
    """By what Unicode says of it, which the code does not ask."""
    kind = unicodedata.category(sign)
    if kind in ("Cc", "Zl", "Zp", "Cs") or unicodedata.bidirectional(sign) in TURNING:
        return True
    return kind == "Cf" and not SEEN.match(sign)


def test_every_sign_of_unicode() -> None:
    hostile = [sign for sign in EVERY if is_hostile(sign)]
    assert len(hostile) > 2_200
    for sign in hostile:
        assert sign not in one_line(sign), hex(ord(sign))
        assert one_line(sign).isascii()
        assert one_line(sign).isprintable()
        assert json.loads(f'"{one_line(sign)}"') == sign
    assert {sign for sign in hostile if sign in printable(sign)} == {"\n", "\t"}
    # And what is to be read stays: every letter, mark, number, punctuation and symbol that has a width.
    visible = [sign for sign in EVERY if unicodedata.category(sign)[0] in "LNPS"] + [" ", "\xa0", "\u3000"]
    changed = {sign for sign in visible if one_line(sign) != sign}
    assert changed == set("\u115f\u1160\u3164\uffa0"), (
        "the fillers of Hangul, which are letters without a width"
    )


@pytest.mark.parametrize(
    "text", ["Grüße, 日本語", "שלום עולם", "مرحبا ١٢٣", "❤️ 👍🏽 🇪🇺", "a\u00a0b\u3000c", "e\u0301", "\\u202e"]
)
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == one_line(text) == text


def test_it_is_done_once_only() -> None:
    assert one_line(one_line(HOSTILE)) == printable(one_line(HOSTILE)) == one_line(HOSTILE)


def explained() -> None:
    output.print_error(ConnectorError(HOSTILE, means=HOSTILE, todo=HOSTILE), HOSTILE)


def tabled() -> None:
    for line in output.table_lines("", ("a", "b"), [(HOSTILE, "\n\t"), (1, None)]):
        output.echo(line)


def drawn() -> None:
    for line in finding_lines("error", HOSTILE, HOSTILE, Screen(60, fine=True)):
        output.echo(line)


def logged() -> None:
    logs.set_up("DEBUG", "console", Redaction(()))
    structlog.get_logger().debug(HOSTILE, text=HOSTILE, **{HOSTILE: [HOSTILE, {"a": (HOSTILE,)}]}, number=1)


def logged_as_json() -> None:
    logs.set_up("DEBUG", "json", Redaction(()))
    structlog.get_logger().debug("x", text=HOSTILE)


WAYS: dict[str, Callable[[], object]] = {
    "say": lambda: output.echo(HOSTILE),
    "complain": lambda: output.echo_err(HOSTILE),
    "json": lambda: output.echo_json({"a": HOSTILE}),
    "table": tabled,
    "error": explained,
    "finding": drawn,
    "log": logged,
    "log as json": logged_as_json,
    "page for a probe": lambda: output.echo(text_page([HOSTILE], well=True).body.decode()),
    "html": lambda: output.echo(escape(HOSTILE)),
}


@pytest.fixture
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("way", WAYS)
def test_every_way_out(way: str) -> None:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        WAYS[way]()
    said = out.getvalue() + err.getvalue()
    assert not RAW.search(said), repr(said)
    assert "red" in said
    assert "\\u202eright" in said


@pytest.mark.usefixtures("as_it_was")
def test_a_log_line_is_one_line() -> None:
    with redirect_stderr(io.StringIO()) as err:
        logs.set_up("INFO", "console", Redaction(()))
        structlog.get_logger().info("run_ended", error="one\n2026-01-01 [error] made up")
    assert err.getvalue().count("\n") == 1


def test_our_own_colours_stay() -> None:
    first, *rest = finding_lines("error", HOSTILE, "", Screen(400, fine=True, colour=True))
    assert first.startswith("\x1b[31merror   \x1b[0m\\u001b[31mred")
    with redirect_stdout(io.StringIO()) as out:
        output.echo(first)
    assert out.getvalue() == f"{first}\n"
    assert len(RAW.findall(first)) == 2
    assert rest == []


# --- as processes ---------------------------------------------------------------------------------------

SIGN = "\x1b[31mX\x9b2J\u202e\x07"
WORDS = [
    ["explain", SIGN],
    ["explain", f"bmr1-{SIGN}"],
    ["sync", "--connection", SIGN],
    ["sync", f"--{SIGN}"],
    ["sync", SIGN],
    [SIGN],
    ["sync", "--max-requests", SIGN],
    ["sync", "--stream", SIGN],
    ["backfill", "--since", SIGN],
    ["outbox", "show", SIGN],
    ["status", "--env-file", f"/nowhere/{SIGN}"],
    ["report", "--html", f"/nowhere/{SIGN}"],
    ["state", "import", f"/nowhere/{SIGN}"],
]


@pytest.mark.slow
def test_arguments_are_not_echoed_raw(machine: Machine) -> None:
    for words in WORDS:
        ended = machine.run(*words)
        assert not RAW.search(ended.out + ended.err), (words, ended)
        assert ended.out + ended.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        {"BEAMER_STREAMS": SIGN},
        {"BEAMER_PLAN": SIGN},
        {f"BEAMER_{SIGN}": "x"},
        {"BEAMER_API_KEY_FILE": f"/nowhere/{SIGN}"},
        {"DATABASE_URL": f"postgresql://me@127.0.0.1:1/{SIGN}"},
        {"DATABASE_URL": f"sqlite:////proc/nowhere/{SIGN}"},
    ],
)
def test_settings_are_not_echoed_raw(make: Make, extra: dict[str, str]) -> None:
    ended = make(extra=extra).run("sync")
    assert ended.code in (69, 78)
    assert not RAW.search(ended.out + ended.err), ended


@pytest.mark.slow
def test_what_neighbours_say_is_shown_as_text(make: Make) -> None:
    machine = make(extra={"LOG_LEVEL": "debug", "LOG_FORMAT": "console"})
    row = machine.sandbox.world.add("nps", feedback=HOSTILE, score="7", userId=f"u{HOSTILE}")
    answer = json.dumps({"success": False, "message": HOSTILE, "code": HOSTILE})
    machine.sandbox.faults.on(lambda request: request.api == "segment", [("answer", 400, answer, {})] * 900)
    said = machine.run("sync", "--stream", "nps")
    with closing(machine.database()) as database, database.write() as db:
        db.execute(update(outbox).values(state="dead", answer=HOSTILE))
        numbers = [str(each.id) for each in db.execute(outbox.select())]
    looks = [
        ["outbox", "list", "--dead"],
        ["explain", row],
        ["status"],
        ["check", "--offline"],
        ["runs"],
    ]
    for ended in [said, *(machine.run(*words) for words in looks)]:
        assert not RAW.search(ended.out + ended.err), ended
    hostile = 0
    for number in numbers:
        shown = machine.run("outbox", "show", number).out
        assert not RAW.search(shown), repr(shown)
        message, _ = json.JSONDecoder().raw_decode(shown)
        hostile += "\u202e" in message["userId"] or "\u202e" in json.dumps(message, ensure_ascii=False)
        if hostile:
            break
    assert hostile
    with Terminal(machine, ("outbox", "list", "--dead"), 200) as terminal:
        terminal.end()
    # Rich's own colours are of the form that follows; nothing of what was planted is.
    assert not RAW.search(re.sub("\x1b\\[[0-9;]*m", "", terminal.shown))
    assert "\x1b[31m" not in terminal.shown

"""`init`: asks for what a first sync needs, looks whether it works, and writes it down for cron."""

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from typer import Abort, BadParameter, confirm, prompt

from connector.clock import SystemClock
from connector.commands.checking import examine, show
from connector.commands.looking import screen_here
from connector.commands.session import Session, begin
from connector.config import STREAMS, known_settings, surroundings, values
from connector.ending import worst
from connector.errors import ConfigurationError
from connector.files import READABLE_BY_ONE, put
from connector.output import complain, say
from connector.plans import ASSUMED, PLANS
from connector.service.checks import Finding
from connector.service.screen import fitted

EXAMPLE = "config/beamer-segment.env.example"
DEFAULT_FILE = "beamer-segment.env"
HEAD = """\
# Settings of beamer-segment, written by `beamer-segment init`. Keep this file to yourself (chmod 600).
# Every other setting: config/beamer-segment.env.example, or the README.
"""
NOT_NOTICED = (
    "A wrong write key cannot be noticed from here: Segment answers 200 to any key, also to one of another "
    "region, and drops its events without a word. Only you can see it. Open, in Segment, Connections > "
    "Sources > your source > Debugger: the event `Beamer Connector Tested` has to stand there within a "
    "minute. If it does not, the key or the region is wrong."
)


@dataclass(frozen=True, slots=True)
class Question:
    """One setting that is asked for; an empty answer is `default`, of which `unset` ones are not written."""

    variable: str
    words: str
    parse: Callable[[Any], Any]
    default: str | None = None
    hidden: bool = False
    unset: bool = False


def _region(text: str) -> str:
    word = text.lower()
    if word not in ("us", "eu"):
        raise ValueError("this is neither us nor eu")
    return word


def _start_date(text: str) -> datetime:
    return values.believable(values.moment(text), SystemClock().now())


QUESTIONS = (
    Question("BEAMER_API_KEY", "Beamer's API key (Settings > API; not shown)", values.key, hidden=True),
    Question(
        "SEGMENT_WRITE_KEY",
        "The Segment source's write key (its Settings > API Keys; not shown)",
        values.key,
        hidden=True,
    ),
    Question("SEGMENT_REGION", "The Segment workspace's region, us or eu", _region, "us"),
    Question("BEAMER_PLAN", f"Beamer's plan ({', '.join(PLANS)})", values.plan, ASSUMED.name),
    Question(
        "BEAMER_STREAMS",
        f"Streams, a list of {', '.join(STREAMS)}; or all",
        values.streams,
        "all",
        unset=True,
    ),
    Question(
        "BEAMER_START_DATE",
        "Send rows from which date on, such as 2024-01-01 (UTC)",
        _start_date,
        "30 days before the first sync",
        unset=True,
    ),
)


def initialize(file: Path | None, *, force: bool, new_store: bool) -> int:
    """Ask, check, write; give the exit code. Nothing is written before everything was answered."""
    target = (file or Path.home() / DEFAULT_FILE).expanduser().absolute()
    _refuse(target, force=force)
    told(f"This writes {target}. Ctrl-C ends it, with nothing written.")
    complain("")
    answers = {each.variable: answer for each in QUESTIONS if (answer := asked(each)) is not None}
    send_test = confirm("Send one test event, to be looked for in Segment?", default=True, err=True)
    complain("")
    code = _checked(begin(None, None, secrets=True, given=answers), send_test=send_test, new_store=new_store)
    if code and not confirm("\nSomething is wrong. Write the file all the same?", default=False, err=True):
        raise Abort
    write(target, answers)
    _tell(target, answers, send_test=send_test)
    return code


def _refuse(target: Path, *, force: bool) -> None:
    if not sys.stdin.isatty():
        raise BadParameter(
            f"It asks questions, and there is no terminal to ask at. Copy {EXAMPLE} instead, "
            "fill in the two keys, and chmod 600 it."
        )
    if target.exists() and not force:
        raise BadParameter(f"{target} is there already. Name another one, or replace it with --force.")
    if not target.parent.is_dir():
        raise BadParameter(f"There is no folder {target.parent}.")


def asked(question: Question) -> str | None:
    """Ask until the answer can be used; None leaves the setting at its default."""
    while True:
        given = prompt(question.words, default=question.default, hide_input=question.hidden, err=True)
        answer = str(given).strip()
        if question.unset and answer == question.default:
            return None
        if not answer:
            continue
        try:
            question.parse(answer)
        except ValueError as error:
            # What is wrong with a key is said without the key.
            stop = "" if str(error).endswith("?") else "."
            complain(f"  {error}{stop} Please once more.")
        else:
            return answer


def _checked(here: Session, *, send_test: bool, new_store: bool) -> int:
    found: list[Finding] = []
    with here.store(new_store) as store:
        connection = here.settings.connection(None)
        for finding in examine(here, store, connection, offline=False, send_test=send_test):
            found.append(finding)
            show(finding)
    return worst(finding.exit for finding in found)


def write(target: Path, answers: Mapping[str, str]) -> None:
    """Write the env file, readable by this user alone, all of it or nothing."""
    lines = [f"{name}={answer}\n" for name, answer in answers.items()]
    try:
        put(target, (HEAD + "".join(lines)).encode(), READABLE_BY_ONE)
    except OSError as error:
        raise ConfigurationError(
            f"The env file {target} cannot be written: {error.strerror}.", means="Nothing was written."
        ) from None


def _tell(target: Path, answers: Mapping[str, str], *, send_test: bool) -> None:
    told(NOT_NOTICED)
    if not send_test:
        told(f"No test event was sent: `beamer-segment check --send-test --env-file {target}` sends one.")
    others = sorted(each for each in _of_ours() if each in surroundings() and each not in answers)
    if others:
        told(f"Set in this shell and not in the file, so cron will not see it: {', '.join(others)}")
    told(f"{target} is written. A first sync by hand, and a line for `crontab -e`:")
    complain("")
    program, file = _program(), shlex.quote(str(target))
    say(f"{program} sync --env-file {file}")
    # In a crontab a percent sign ends the command.
    say("17 * * * * " + f"{program} sync --quiet --env-file {file}".replace("%", r"\%"))


def told(text: str) -> None:
    """A paragraph, as wide as the terminal allows."""
    complain("")
    for line in fitted(text, screen_here(), indent=0):
        complain(line)


def _of_ours() -> set[str]:
    return {each.environment for each in known_settings()} | {"XDG_STATE_HOME"}


def _program() -> str:
    """By its absolute path: cron has a short PATH."""
    found = shutil.which("beamer-segment")
    return shlex.quote(found) if found else f"{shlex.quote(sys.executable)} -m connector"

"""`init`: asks for what a first sync needs, checks it, and writes an env file for cron."""

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import BadParameter, confirm, prompt

from connector.cli.check import examine, finding_text
from connector.cli.context import Session, open_session
from connector.cli.exit_codes import worst
from connector.cli.options import NewStore, OutputFormat
from connector.cli.output import Output, Reporter, Result, echo_err, render
from connector.cli.status import terminal_screen
from connector.clock import SystemClock
from connector.config import STREAMS, known_settings, surroundings, values
from connector.domain.plans import ASSUMED, PLANS
from connector.errors import ConfigurationError
from connector.files import READABLE_BY_ONE, put
from connector.reporting.checks import Finding
from connector.reporting.status_text import fitted

app = typer.Typer(rich_markup_mode=None)

DEFAULT_FILE = "beamer-segment.env"
HEAD = """\
# Settings of beamer-segment, written by `beamer-segment init`. Only you may read this file (chmod 600).
# Every other setting: `beamer-segment config show`, or the README.
"""
NOT_NOTICED = (
    "This program cannot detect a wrong write key: Segment answers 200 to any key, also to a key of "
    "another region, and drops the events. Check it in Segment: open Connections > Sources > your source "
    "> Debugger. The event `Beamer Connector Tested` must appear there within a minute. If it does not, "
    "the key or the region is wrong."
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question for a setting; an empty answer means `default`, which is not written if `unset`."""

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
        "Send rows from this date on, such as 2024-01-01 (UTC)",
        _start_date,
        "30 days before the first sync",
        unset=True,
    ),
)


@app.command()
def init(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="The file to write.", show_default="~/beamer-segment.env"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Ask for both keys and what to read, check them, write an env file, and print the crontab line.

    Example: beamer-segment init --env-file ~/beamer-segment.env
    """
    target = (env_file or Path.home() / DEFAULT_FILE).expanduser().absolute()
    _refuse(target, force=force)
    _paragraph(f"The answers go into {target}. Ctrl-C stops, and nothing is written.")
    echo_err("")
    answers = {
        question.variable: answer for question in QUESTIONS if (answer := answer_to(question)) is not None
    }
    send_test = confirm("Send one test event, to look for in Segment?", default=True, err=True)
    echo_err("")
    session = open_session(None, None, overrides=answers)
    code = _checked(session, Reporter(output), send_test=send_test, new_store=new_store)
    if code and not confirm("\nA check failed. Write the file anyway?", default=False, err=True):
        raise typer.Abort
    write(target, answers)
    _explain(target, answers, send_test=send_test)
    program, file = _program(), shlex.quote(str(target))
    first_sync = f"{program} sync --env-file {file}"
    # In a crontab a percent sign ends the command.
    crontab = "17 * * * * " + f"{program} sync --quiet --env-file {file}".replace("%", r"\%")
    data = {"file": str(target), "first_sync": first_sync, "crontab": crontab}
    raise typer.Exit(render("init", Result(data, [first_sync, crontab], code), output))


def _refuse(target: Path, *, force: bool) -> None:
    if not sys.stdin.isatty():
        raise BadParameter(
            f"`init` asks questions, and there is no terminal. Write {target} yourself: the lines "
            "BEAMER_API_KEY=… and SEGMENT_WRITE_KEY=…, and other settings that you need (`beamer-segment "
            f"config show` lists them). Then run: chmod 600 {target}"
        )
    if target.exists() and not force:
        raise BadParameter(f"{target} exists already. Name another file, or replace it with --force.")
    if not target.parent.is_dir():
        raise BadParameter(f"There is no folder {target.parent}.")


def answer_to(question: Question) -> str | None:
    """Ask until the answer can be used; None leaves the setting at its default."""
    while True:
        text = prompt(question.words, default=question.default, hide_input=question.hidden, err=True)
        answer = str(text).strip()
        if question.unset and answer == question.default:
            return None
        if not answer:
            continue
        try:
            question.parse(answer)
        except ValueError as error:
            # What is wrong with a key is said without the key.
            stop = "" if str(error).endswith("?") else "."
            echo_err(f"  {error}{stop} Please try again.")
        else:
            return answer


def _checked(session: Session, reporter: Reporter, *, send_test: bool, new_store: bool) -> int:
    findings: list[Finding] = []
    with session.database(new_store) as database:
        connection = session.settings.connection(None)
        for finding in examine(session, database, connection, offline=False, send_test=send_test):
            findings.append(finding)
            reporter.summary(finding_text(finding))
    return worst(finding.exit for finding in findings)


def write(target: Path, answers: Mapping[str, str]) -> None:
    """Write the env file, readable by this user alone, all of it or nothing."""
    lines = [f"{name}={answer}\n" for name, answer in answers.items()]
    try:
        put(target, (HEAD + "".join(lines)).encode(), READABLE_BY_ONE)
    except OSError as error:
        raise ConfigurationError(
            f"The env file {target} cannot be written: {error.strerror}.", means="Nothing was written."
        ) from None


def _explain(target: Path, answers: Mapping[str, str], *, send_test: bool) -> None:
    _paragraph(NOT_NOTICED)
    if not send_test:
        _paragraph(
            f"No test event was sent: `beamer-segment check --send-test --env-file {target}` sends one."
        )
    others = sorted(
        variable for variable in _of_ours() if variable in surroundings() and variable not in answers
    )
    if others:
        _paragraph(f"Set in this shell but not in the file, so cron will not use it: {', '.join(others)}")
    _paragraph(
        f"{target} is written. Run the first sync with the first line; put the second line into `crontab -e`:"
    )
    echo_err("")


def _paragraph(text: str) -> None:
    """A paragraph, as wide as the terminal allows."""
    echo_err("")
    for line in fitted(text, terminal_screen(), indent=0):
        echo_err(line)


def _of_ours() -> set[str]:
    return {setting.environment for setting in known_settings()} | {"XDG_STATE_HOME"}


def _program() -> str:
    """By its absolute path: cron has a short PATH."""
    path = shutil.which("beamer-segment")
    return shlex.quote(path) if path else f"{shlex.quote(sys.executable)} -m connector"

"""`init`: asks for what a first sync needs, checks it, and writes an env file for cron."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import BadParameter, confirm, prompt

from connector.cli.check import examine
from connector.cli.command import NewStore, StreamNames, open_session, prints_result
from connector.cli.exit_codes import worst
from connector.cli.output import Reporter, Result, echo_err, print_error
from connector.cli.quota import enter_used
from connector.clock import SystemClock
from connector.config import (
    STREAMS,
    default_env_file,
    env_file_in_use,
    known_settings,
    surroundings,
    values,
)
from connector.domain.budget import ASSUMED, PLANS
from connector.errors import ConfigurationError
from connector.files import READABLE_BY_ONE, put
from connector.text import Verbatim

app = typer.Typer(rich_markup_mode=None)

HEAD = """\
# Settings of beamer-segment, written by `beamer-segment init`. Only you may read this file (chmod 600).
# Every other setting: `beamer-segment config show`, or the page Settings of the documentation.
# With `beamer-segment schedule` and Beamer's webhooks, rows arrive within minutes. Enter their secrets here:
# BEAMER_WEBHOOK_SECRET=
"""
NOT_NOTICED = (
    "This program cannot detect a wrong write key: Segment answers 200 to any key, also to a key of "
    "another region, and drops the events. Check it in Segment: open Connections > Sources > your source "
    "> Debugger. The event `Beamer Connector Tested` must appear there within a minute. If it does not, "
    "the key or the region is wrong."
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question for a setting; an empty answer means `default`, which is not written if `unset`.

    `hint` is printed before it. `monthly`: it is not asked for a plan without a monthly limit.
    """

    variable: str
    words: str
    parse: Callable[[Any], Any]
    default: str | None = None
    hint: tuple[str, ...] = ()
    hidden: bool = False
    unset: bool = False
    monthly: bool = False


def _region(text: str) -> str:
    word = text.lower()
    if word not in ("us", "eu"):
        raise ValueError("this is neither us nor eu")
    return word


def _start_date(text: str) -> datetime:
    return values.believable(values.moment(text), SystemClock().now())


def _number(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"{values.quoted(text)} is not a number from {least} to {most:,}")
    return int(text)


def _plan_hint() -> Iterator[str]:
    yield "The plans of Beamer, with the requests of a month (compare them with your contract):"
    for plan in PLANS.values():
        beyond = "more are billed" if plan.overage_billed else "more are refused"
        limit = f"{plan.monthly_requests:,} a month, {beyond}" if plan.monthly_requests else "no limit"
        yield f"  {plan.name:14}{limit}"


# The question for used requests; its answer goes into the database.
USED = "requests used"
KEYS = (
    Question("BEAMER_API_KEY", "Beamer's API key (Settings > API; not shown)", values.key, hidden=True),
    Question(
        "SEGMENT_WRITE_KEY",
        "The Segment source's write key (its Settings > API Keys; not shown)",
        values.key,
        hidden=True,
    ),
)
QUESTIONS = (
    Question("SEGMENT_REGION", "The Segment workspace's region, us or eu", _region, "us"),
    Question("BEAMER_PLAN", "Beamer's plan", values.plan, ASSUMED.name, tuple(_plan_hint())),
    Question(
        "BEAMER_PERIOD_DAY",
        "The day on which Beamer's month begins, 1 to 31",
        lambda text: _number(text, 1, 31),
        "unknown",
        unset=True,
        monthly=True,
    ),
    Question(
        USED,
        "Requests used already this month, as Beamer's dashboard shows",
        lambda text: _number(text, 0, 1_000_000_000),
        "unknown",
        unset=True,
        monthly=True,
    ),
    Question(
        "BEAMER_STREAMS",
        "Streams",
        values.streams,
        "all",
        (
            "Which streams? `all`; `nps` for only NPS, which costs about one request a sync; or a list of "
            f"{', '.join(STREAMS)}.",
        ),
        unset=True,
    ),
    Question(
        "BEAMER_START_DATE",
        "Send rows from this date on (UTC)",
        _start_date,
        "30 days before the first sync",
        unset=True,
    ),
)


Region = Annotated[
    str | None, typer.Option("--region", help="The Segment workspace's region, us or eu.", show_default="us")
]
PlanName = Annotated[
    str | None,
    typer.Option("--plan", help=f"Beamer's plan: {', '.join(PLANS)}.", show_default=ASSUMED.name),
]
PeriodDay = Annotated[
    str | None, typer.Option("--period-day", help="The day on which Beamer's month begins, 1 to 31.")
]
Used = Annotated[
    str | None, typer.Option("--used", help="Requests used this month, as Beamer's dashboard shows them.")
]
StartDate = Annotated[
    str | None, typer.Option("--start-date", help="Send rows from this date on, such as 2024-01-01 (UTC).")
]


@app.command()
@prints_result
def init(
    reporter: Reporter,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            help="The file to write.",
            show_default="~/.config/beamer-segment/beamer-segment.env",
        ),
    ] = None,
    region: Region = None,
    plan: PlanName = None,
    period_day: PeriodDay = None,
    used: Used = None,
    stream: StreamNames = None,
    start_date: StartDate = None,
    send_test: Annotated[
        bool | None,
        typer.Option("--send-test/--no-send-test", help="Send one test event.", show_default=False),
    ] = None,
    non_interactive: Annotated[
        bool,
        typer.Option(
            "--non-interactive",
            help="Ask nothing: both keys come from the environment, the rest from options or defaults.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    new_store: NewStore = False,
) -> Result:
    """Ask for both keys and what to read, check them, write an env file, and print the crontab line.

    Options answer questions beforehand. With --non-interactive, BEAMER_API_KEY and SEGMENT_WRITE_KEY (or
    …_FILE, the path of a file with the key) must be set in the environment.

    Example: beamer-segment init --plan starter --stream nps
    """
    target, interactive = _target(env_file), not non_interactive
    _refuse(target, force=force, interactive=interactive)
    options = {
        "SEGMENT_REGION": region,
        "BEAMER_PLAN": plan,
        "BEAMER_PERIOD_DAY": period_day,
        USED: used,
        "BEAMER_STREAMS": ",".join(stream) if stream else None,
        "BEAMER_START_DATE": start_date,
    }
    answers = _answers(_options(options), target, interactive=interactive)
    if send_test is None:
        send_test = interactive and confirm(
            "Send one test event, to look for in Segment?", default=True, err=True
        )
    return _set_up(
        target, answers, reporter, interactive=interactive, send_test=send_test, new_store=new_store
    )


def _set_up(
    target: Path,
    answers: dict[str, str],
    reporter: Reporter,
    *,
    interactive: bool,
    send_test: bool,
    new_store: bool,
) -> Result:
    """Check the answers, and write them into the env file."""
    echo_err("")
    used = answers.pop(USED, None)
    # Variables of this shell must not override what was typed.
    unset = {"CONNECTOR_CONFIG": "", **{f"{question.variable}_FILE": "" for question in KEYS}}
    session = open_session(None, None, overrides={**unset, **answers})
    with session.database(new_store) as database:
        connection = session.settings.connection()
        try:
            if used is not None:
                enter_used(session, database, connection, int(used), None)
        except ConfigurationError as error:
            # The other answers are kept.
            print_error(error)
        findings = examine(session, database, connection, reporter, send_test=send_test)
    code = worst(finding.exit for finding in findings)
    facts = [finding.as_dict() for finding in findings]
    if code and not interactive:
        return Result({"file": None, "findings": facts}, ["A check failed, so nothing was written."], code)
    if code and not confirm("\nA check failed. Write the file anyway?", default=False, err=True):
        raise typer.Abort
    _write(target, answers)
    _explain(target, answers, send_test=send_test)
    program = _program()
    first_sync = f"{program} sync{_file_option(target, surroundings())}"
    # Cron sets HOME, and no other variable of this shell. In a crontab a percent sign ends the command.
    of_cron = {"HOME": surroundings().get("HOME", "")}
    crontab = f"17 * * * * {program} sync --quiet{_file_option(target, of_cron)}".replace("%", r"\%")
    data = {"file": str(target), "findings": facts, "first_sync": first_sync, "crontab": crontab}
    return Result(data, [Verbatim(first_sync), Verbatim(crontab)], code)


def _target(env_file: Path | None) -> Path:
    target = env_file or default_env_file(surroundings())
    if target is None:
        raise BadParameter("There is no home directory for the env file. Name one with --env-file.")
    return target.expanduser().absolute()


def _refuse(target: Path, *, force: bool, interactive: bool) -> None:
    if interactive and not sys.stdin.isatty():
        raise BadParameter(
            "`init` asks questions, and there is no terminal. Use --non-interactive, or write "
            f"{target} yourself: the lines BEAMER_API_KEY=… and SEGMENT_WRITE_KEY=…, and other settings "
            f"that you need (`beamer-segment config show` lists them). Then run: chmod 600 {target}"
        )
    if target.exists() and not force:
        raise BadParameter(f"{target} exists already. Name another file, or replace it with --force.")
    if target != default_env_file(surroundings()) and not target.parent.is_dir():
        raise BadParameter(f"There is no folder {target.parent}.")


# --- the answers ----------------------------------------------------------------------------------------


def _options(options: Mapping[str, str | None]) -> dict[str, str]:
    """Return the options' answers; refuse unusable ones."""
    for question in QUESTIONS:
        try:
            if (text := options[question.variable]) is not None:
                question.parse(text)
        except ValueError as error:
            raise BadParameter(f"{question.words}: {error}.") from None
    return {variable: text for variable, text in options.items() if text is not None}


def _answers(options: dict[str, str], target: Path, *, interactive: bool) -> dict[str, str]:
    """Return the keys and all answers: from `options`, typed, or the defaults."""
    if interactive:
        _paragraph(f"The answers go into {target}. Ctrl-C stops, and nothing is written.")
        echo_err("")
        answers = {question.variable: _answer(question) or "" for question in KEYS} | options
    else:
        answers = dict(map(_key_of_environment, KEYS)) | options
    for question in QUESTIONS:
        limited = values.plan(answers.get("BEAMER_PLAN", ASSUMED)).monthly_requests is not None
        if question.variable not in options and (limited or not question.monthly):
            answer = _answer(question) if interactive else (None if question.unset else question.default)
            answers |= {} if answer is None else {question.variable: answer}
    return answers


def _key_of_environment(question: Question) -> tuple[str, str]:
    """Return the variable with a key, or with the path of its file, and its value."""
    name, environ = question.variable, surroundings()
    if value := environ.get(name, "").strip():
        return name, value
    if file := environ.get(f"{name}_FILE", "").strip():
        return f"{name}_FILE", str(Path(file).expanduser().absolute())
    raise ConfigurationError(
        f"{name} is not set, and --non-interactive asks for nothing.",
        means="Nothing was written.",
        todo=f"Set {name} in the environment, or {name}_FILE to the path of a file with the key.",
    )


def _answer(question: Question) -> str | None:
    """Ask until the answer is usable; None leaves the setting at its default."""
    for line in question.hint:
        echo_err(line)
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
            # The error about a key does not contain the key.
            stop = "" if str(error).endswith("?") else "."
            echo_err(f"  {error}{stop} Please try again.")
        else:
            return answer


# --- the file -------------------------------------------------------------------------------------------


def _write(target: Path, answers: Mapping[str, str]) -> None:
    """Write the env file, readable by this user alone, completely or not at all."""
    lines = [f"{name}={answer}\n" for name, answer in answers.items()]
    try:
        if target == default_env_file(surroundings()):
            target.parent.mkdir(0o700, parents=True, exist_ok=True)
        put(target, (HEAD + "".join(lines)).encode(), READABLE_BY_ONE)
    except OSError as error:
        raise ConfigurationError(
            f"The env file {target} cannot be written: {error.strerror}.", means="Nothing was written."
        ) from None


def _file_option(target: Path, environ: Mapping[str, str]) -> str:
    """Return the option that names the file, if a command does not read it by default."""
    return "" if env_file_in_use(environ) == target else f" --env-file {shlex.quote(str(target))}"


def _explain(target: Path, answers: Mapping[str, str], *, send_test: bool) -> None:
    _paragraph(NOT_NOTICED)
    if not send_test:
        check = f"beamer-segment check --send-test{_file_option(target, surroundings())}"
        _paragraph(f"No test event was sent: `{check}` sends one.")
    known = {"XDG_STATE_HOME", *(setting.environment for setting in known_settings())}
    if others := sorted(known & surroundings().keys() - answers.keys()):
        _paragraph(f"Set in this shell but not in the file, so cron will not use it: {', '.join(others)}")
    _paragraph(
        f"{target} is written. Run the first sync with the first line; put the second line into `crontab -e`:"
    )
    echo_err("")


def _paragraph(text: str) -> None:
    echo_err(f"\n{text}")


def _program() -> str:
    """Return how to call this program, by its absolute path: cron has a short PATH."""
    path = shutil.which("beamer-segment")
    return shlex.quote(path) if path else f"{shlex.quote(sys.executable)} -m connector"

"""`demo` and `sandbox`: a complete example on this machine, with a made-up Beamer account and Segment."""

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from connector import compose
from connector.beamer.streams import CATALOGUE
from connector.cli.command import Session, prints_result
from connector.cli.exit_codes import stopping
from connector.cli.output import Reporter, Result, render, spinner, table_lines
from connector.clock import SystemClock
from connector.config import load
from connector.config.addresses import is_loopback, web_address
from connector.errors import ConfigurationError
from connector.logs import Redaction, set_up
from connector.sandbox import MONTHLY, Company, Sandbox, Served, environment
from connector.sandbox.webhooks import SECRET
from connector.state.engine import Database
from connector.sync.run import Outcome, Run
from connector.text import Verbatim, counted

app = typer.Typer(rich_markup_mode=None)
Seed = Annotated[int, typer.Option("--seed", help="Another number creates another company.")]

NAME = "beamer-segment"
HOURS = 26
HEAD = (
    "A made-up Beamer account and a made-up Segment are running on this machine: no keys are needed, and "
    "no data leaves it."
)
NEXT = """Next steps:
  {0} sandbox    serve the same account, to sync it from another terminal
  {0} init       enter your own keys, and check them
  {0} sync       run it from cron, as often as you like"""


class SandboxClock(SystemClock):
    """This machine's clock, moved forward as the demo's time passes."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self._sandbox = sandbox

    def now(self) -> datetime:
        return self._sandbox.now()


@app.command()
@prints_result
def demo(reporter: Reporter, seed: Seed = 7) -> Result:
    """Run a complete example on this machine: a made-up Beamer account, three syncs, a made-up Segment."""
    set_up("WARNING", "auto", Redaction(()))
    made_up = Sandbox(Company(seed=seed), now=SystemClock().now().replace(microsecond=0), speed=1.0)
    with tempfile.TemporaryDirectory() as folder, made_up.serve() as served:
        reporter.summary([HEAD])
        session = Session(load(_variables(folder, served, made_up)), SandboxClock(made_up))
        with session.database(new=True) as database:
            first = _sync(session, database, "First sync")
            made_up.advance(timedelta(hours=HOURS))
            reporter.summary(
                [f"… {counted(HOURS, 'hour')} go by: users comment, react, vote and answer surveys …"]
            )
            second = _sync(session, database, "Second sync")
            third = _sync(session, database, "Third sync, at once")
    outcomes = {"first": first, f"{HOURS} h later": second, "at once": third}
    messages = made_up.segment.messages
    code = max(int(outcome.exit) for outcome in outcomes.values())
    data = {"syncs": [_as_dict(*outcome) for outcome in outcomes.items()], "messages": messages}
    return Result(data, _lines(outcomes, messages), code)


def _variables(folder: str, served: Served, made_up: Sandbox) -> dict[str, str]:
    """Return the settings of a connector for the sandbox, with its own database in a folder."""
    # In one database with a real account's state, the two would mix.
    return {"DATABASE_URL": f"sqlite:///{folder}/state.sqlite", **environment(served, made_up)}


def _sync(session: Session, database: Database, what: str) -> Outcome:
    connection = session.settings.connection()
    with (
        compose.working(session.settings, connection, database, session.clock) as context,
        spinner(what) as show,
    ):
        return Run(
            context,
            on_progress=lambda report: show(
                f"{counted(report.requests_spent, 'request')}, {report.sent:,} sent"
            ),
        ).go()


def _as_dict(name: str, outcome: Outcome) -> dict[str, Any]:
    spent, sent = outcome.report.requests_spent, outcome.report.sent
    return {"sync": name, "rows_new": dict(outcome.report.new), "sent": sent, "requests_spent": spent}


def _lines(outcomes: Mapping[str, Outcome], messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    reports = [outcome.report for outcome in outcomes.values()]
    rows: list[tuple[object, ...]] = [
        (stream, *(report.new[stream] for report in reports)) for stream in CATALOGUE
    ]
    rows += [
        ("sent to Segment", *(report.sent for report in reports)),
        ("excluded", *(report.excluded.total() for report in reports)),
        ("requests", *(report.requests_spent for report in reports)),
    ]
    yield from table_lines("\nNew rows, and what happened to them", ("stream", *outcomes), rows)
    ids = Counter(message["messageId"] for message in messages)
    twice = sum(count > 1 for count in ids.values())
    yield f"\nSegment received {counted(len(messages), 'event')}, {twice} of them twice. By name:"
    names = Counter(message["event"] for message in messages)
    yield from table_lines("", ("event", "count"), sorted(names.items()))
    comments = [message for message in messages if message["event"] == "Post Commented"]
    yield "\nOne of them in full:"
    yield Verbatim(json.dumps((comments or messages)[-1], indent=2, ensure_ascii=False))
    yield "\n" + NEXT.format(called(sys.argv[0], shutil.which(NAME)))


@app.command()
@prints_result
def sandbox(
    reporter: Reporter,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65534, help="Beamer's port; Segment's is the next one.")
    ] = 8700,
    seed: Seed = 7,
    speed: Annotated[float, typer.Option("--speed", min=0, help="Sandbox seconds per real second.")] = 1.0,
    plan: Annotated[str, typer.Option("--plan", help="The account's plan.")] = "pro",
    webhooks: Annotated[
        str | None,
        typer.Option("--webhooks", metavar="URL", help="Send Beamer's webhooks to a `schedule` here."),
    ] = None,
) -> None:
    """Serve a made-up Beamer account and a made-up Segment on loopback, until interrupted."""
    if plan not in MONTHLY:
        raise typer.BadParameter(f"There is no plan {plan!r}; the plans are {', '.join(MONTHLY)}.")
    address = web_address(webhooks or "http://localhost")
    if address is None or address.scheme != "http" or not is_loopback(address.hostname or ""):
        raise typer.BadParameter("--webhooks takes an http:// address of this machine.")
    clock = SystemClock()
    made_up = Sandbox(Company(seed=seed), plan=plan, now=clock.now().replace(microsecond=0), speed=speed)
    try:
        served = made_up.serve(port)
    except OSError as error:
        raise ConfigurationError(
            f"The ports {port} and {port + 1} cannot be opened: {error.strerror}.",
            means="Nothing was started.",
            todo="Choose another port with --port; 0 takes any two free ports.",
        ) from None
    sender = closing(made_up.send_webhooks(webhooks)) if webhooks else nullcontext()
    with tempfile.TemporaryDirectory(prefix="beamer-segment-") as folder, served, sender, stopping(clock):
        variables = _variables(folder, served, made_up)
        if webhooks:
            variables["BEAMER_WEBHOOK_SECRET"] = SECRET
        lines = [Verbatim(f"export {name}={quote(value)}") for name, value in variables.items()]
        render("sandbox", Result({"environment": variables}, [*lines, "# Ctrl-C stops it."]), reporter.output)
        while not clock.stopped:
            clock.sleep(3600)


def called(started: str, on_path: str | None) -> str:
    """Return how to call another command from here: after a clone, NAME is not on the PATH."""
    if on_path:
        return NAME
    return quote(started) if Path(started).name == NAME else f"{quote(sys.executable)} -m connector"

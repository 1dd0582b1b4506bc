"""`demo` and `sandbox`: the whole way on this machine, with a made-up Beamer account and Segment."""

import json
import shutil
import sys
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote

from typer import BadParameter

from connector import compose
from connector.beamer.catalogue import CATALOGUE
from connector.clock import SystemClock
from connector.config import Connection, Settings, load
from connector.ending import stopping
from connector.errors import ConfigurationError
from connector.logs import Redaction, set_up
from connector.output import progress, say, table
from connector.sandbox import Company, Sandbox
from connector.sandbox.command import environment
from connector.sandbox.plans import MONTHLY
from connector.state import schema
from connector.state.engine import Store, open_store
from connector.sync.run import Run
from connector.sync.running import Outcome

NAME = "beamer-segment"
HOURS = 26
NEXT = """Where to go next:
  {0} sandbox      the same account, to point a sync at from another terminal
  {0} check        with your own keys in the environment (see README.md)
  {0} sync         from cron, as often as you like: the month's budget is kept"""


class Hours(SystemClock):
    """This machine's clock, put forward as the demo's time passes."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self._sandbox = sandbox

    def now(self) -> datetime:
        return self._sandbox.now()


def run_demo(seed: int) -> int:
    """Three syncs, a day before the second, from sockets to sockets; give the exit code."""
    set_up("WARNING", "auto", Redaction(()))
    sandbox = Sandbox(Company(seed=seed), now=SystemClock().now().replace(microsecond=0), speed=1.0)
    with tempfile.TemporaryDirectory() as folder, sandbox.serve() as served:
        say(
            "A made-up Beamer account and a made-up Segment are up on loopback: "
            "no keys, and nothing leaves this machine."
        )
        settings = load({**environment(served, sandbox), "LOG_LEVEL": "warning"})
        clock = Hours(sandbox)
        store = open_store(f"sqlite:///{Path(folder) / 'state.sqlite'}")
        schema.ready(store, clock.now())
        connection = settings.connection()
        first = _sync("First sync", settings, connection, store, clock)
        sandbox.advance(timedelta(hours=HOURS))
        say(f"… {HOURS} hours go by: users comment, react, vote and answer surveys …")
        second = _sync("Second sync", settings, connection, store, clock)
        third = _sync("Third sync, at once", settings, connection, store, clock)
        store.close()
    _show([("first", first), (f"{HOURS} h later", second), ("at once", third)], sandbox)
    return max(int(outcome.exit) for outcome in (first, second, third))


def _sync(what: str, settings: Settings, connection: Connection, store: Store, clock: Hours) -> Outcome:
    with compose.working(settings, connection, store, clock) as parts, progress(what) as told:
        return Run(
            parts, on_progress=lambda report: told(f"{report.asked} requests, {report.sent} sent")
        ).go()


def _show(outcomes: list[tuple[str, Outcome]], sandbox: Sandbox) -> None:
    streams = CATALOGUE
    table(
        "\nNew rows, and what became of them",
        ("stream", *(name for name, _ in outcomes)),
        [(stream, *(outcome.report.new[stream] for _, outcome in outcomes)) for stream in streams]
        + [
            ("sent to Segment", *(outcome.report.sent for _, outcome in outcomes)),
            ("held back", *(outcome.report.held.total() for _, outcome in outcomes)),
            ("requests spent", *(outcome.report.asked for _, outcome in outcomes)),
        ],
    )
    landed = sandbox.segment.messages
    twice = [ident for ident, count in Counter(each["messageId"] for each in landed).items() if count > 1]
    say(f"\nSegment holds {len(landed)} events, {len(twice)} of them twice. By name:")
    table("", ("event", "count"), sorted(Counter(each["event"] for each in landed).items()))
    comments = [each for each in landed if each["event"] == "Post Commented"]
    say("\nOne of them, whole:")
    say(json.dumps((comments or landed)[-1], indent=2, ensure_ascii=False))
    say("\n" + NEXT.format(called(sys.argv[0], shutil.which(NAME))))


def called(started: str, on_path: str | None) -> str:
    """How to call another command from where this one was started: from a clone, NAME is not on the PATH."""
    if on_path:
        return NAME
    return quote(started) if Path(started).name == NAME else f"{quote(sys.executable)} -m connector"


def serve_sandbox(port: int, seed: int, speed: float, plan: str) -> None:
    """Serve until interrupted, and print the environment to use it."""
    if plan not in MONTHLY:
        raise BadParameter(f"There is no plan {plan!r}; the plans are {', '.join(MONTHLY)}.")
    clock = SystemClock()
    sandbox = Sandbox(Company(seed=seed), plan=plan, now=clock.now().replace(microsecond=0), speed=speed)
    try:
        served = sandbox.serve(port)
    except OSError as error:
        raise ConfigurationError(
            f"The ports {port} and {port + 1} cannot be served: {error.strerror}.",
            means="Nothing was started.",
            todo="Give another one with --port; 0 takes any two that are free.",
        ) from None
    with served, stopping(clock):
        for name, value in environment(served, sandbox).items():
            say(f"export {name}={quote(value)}")
        say("# Ctrl-C ends it.")
        while not clock.stopped:
            clock.sleep(3600)

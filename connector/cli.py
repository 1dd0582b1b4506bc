"""The command line. Heavy libraries are imported where they are used, so that `--help` answers at once."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from connector import __version__
from connector.ending import stopping, worst
from connector.errors import Exit
from connector.helping import EVERYDAY, MORE, TRY, Grouped
from connector.output import as_json, complain, progress, say, table

if TYPE_CHECKING:
    from connector.commands.session import Session
    from connector.commands.syncing import Wishes

app = typer.Typer(
    name="beamer-segment",
    help="Brings what users say in Beamer into Segment: complete, early, and cheaply.",
    cls=Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `beamer-segment demo`, which needs no keys. Settings: see README.md.",
)
quota_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
outbox_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What waits for Segment, and what it refused."
)
db_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The state store's schema.")
config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The settings in force.")
app.add_typer(quota_app, name="quota", rich_help_panel=EVERYDAY)
app.add_typer(outbox_app, name="outbox", rich_help_panel=EVERYDAY)
app.add_typer(db_app, name="db", rich_help_panel=MORE)
app.add_typer(config_app, name="config", rich_help_panel=MORE)


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


class Form(StrEnum):
    TABLE = "table"
    JSONSCHEMA = "jsonschema"
    TRACKING_PLAN = "tracking-plan"
    MARKDOWN = "markdown"


ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file, or a directory of them.", show_default=False)
]
EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="A file of KEY=VALUE lines, for cron.", show_default=False)
]
ConnectionName = Annotated[
    str | None, typer.Option("--connection", help="Which of several connections.", show_default=False)
]
AsOutput = Annotated[Output, typer.Option("--output", help="json ends with one object on the last line.")]
NewStore = Annotated[
    bool, typer.Option("--new-store", help="Make a store on a local disk also in a pod or an Airflow task.")
]
EveryConnection = Annotated[bool, typer.Option("--all", help="Every connection, one after the other.")]
StreamNames = Annotated[
    list[str] | None, typer.Option("--stream", help="Only this stream and its parents; may be repeated.")
]
MostRequests = Annotated[
    int | None, typer.Option("--max-requests", min=0, help="Spend at most so many requests.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the probes and their cost; ask nobody anything.")
]


def session(config: Path | None, env_file: Path | None, *, secrets: bool = True) -> "Session":
    from connector.commands.session import begin

    return begin(config, env_file, secrets=secrets)


# --- everyday ------------------------------------------------------------------------------------------


@app.command(rich_help_panel=EVERYDAY)
def check(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody anything.")] = False,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Send one test event, to be looked for in Segment.")
    ] = False,
    output: AsOutput = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Go through configuration, store, key, permissions, clock and destination, and say what to do.

    Example: beamer-segment check --send-test
    """
    from connector.commands.checking import examine

    here = session(config, env_file)
    with here.store(new_store) as store:
        findings = examine(
            here, store, here.settings.connection(connection), offline=offline, send_test=send_test
        )
        found = []
        for finding in findings:
            found.append(finding)
            if output is Output.TEXT:
                say(f"{finding.grade:8}{finding.thing}: {finding.found}")
                if finding.todo:
                    say(f"        → {finding.todo}")
    code = worst(finding.exit for finding in found)
    if output is Output.JSON:
        as_json({"command": "check", "exit": code, "findings": [finding.as_dict() for finding in found]})
    raise typer.Exit(code)


def run_each(
    here: "Session",
    connection: str | None,
    every: bool,
    wishes: "Wishes",
    dry_run: bool,
    output: Output,
    new_store: bool = False,
) -> NoReturn:
    """One run of each connection that was asked for, or what it would ask."""
    from connector.commands.syncing import dry_runs, syncs

    if every and connection:
        raise typer.BadParameter("--all and --connection exclude each other.")
    chosen = here.chosen(connection, every)
    text = output is Output.TEXT
    if dry_run:
        plans = dry_runs(here, chosen, wishes, text=text)
        if not text:
            as_json({"command": wishes.command, "dry_run": True, "exit": 0, "connections": plans})
        raise typer.Exit(0)
    with here.store(new_store) as store, stopping(here.clock) as signalled, progress(wishes.doing) as told:
        results = syncs(here, store, chosen, wishes, told, text=text)
    code = signalled() or wishes.code(results)
    if not text:
        as_json({"command": wishes.command, "exit": code, "connections": results})
    raise typer.Exit(code)


@app.command(rich_help_panel=EVERYDAY)
def sync(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    dry_run: DryRun = False,
    no_deliver: Annotated[bool, typer.Option("--no-deliver", help="Collect into the outbox only.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 65 when rows went into quarantine.")] = False,
    skip_exit_code: Annotated[
        int | None,
        typer.Option(
            "--skip-exit-code",
            min=0,
            max=255,
            help="Replaces 75, and 0 where no request could be sent (Airflow: 99).",
        ),
    ] = None,
    output: AsOutput = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Read what is new in Beamer and send it to Segment: one incremental run.

    Example: beamer-segment sync --env-file /etc/beamer-segment.env
    """
    from connector.commands.syncing import Wishes

    wishes = Wishes(tuple(stream or ()), max_requests, not no_deliver, strict, skip_exit_code)
    run_each(session(config, env_file), connection, every, wishes, dry_run, output, new_store)


@app.command(rich_help_panel=EVERYDAY)
def audit(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    dry_run: DryRun = False,
    output: AsOutput = Output.TEXT,
) -> None:
    """Read everything again that was not read whole within a day, compare ids, and fetch what is missing.

    It spends what the budget has at hand, beginning with what was read longest ago; the next goes on there.

    Example: beamer-segment audit --max-requests 100
    """
    from connector.commands.syncing import Wishes

    wishes = Wishes(tuple(stream or ()), max_requests, deliver=True, strict=False, skip_exit=None, audit=True)
    run_each(session(config, env_file), connection, every, wishes, dry_run, output)


@app.command(rich_help_panel=EVERYDAY)
def status(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Show where each stream stands, what waits and what is held back; spends no request."""
    from connector.commands.looking import show_status

    here = session(config, env_file, secrets=False)
    with here.existing() as store:
        found = show_status(
            here, store, here.chosen(connection, every=connection is None), output is Output.TEXT
        )
    if output is Output.JSON:
        as_json({"command": "status", "exit": 0, "connections": found})


@app.command(rich_help_panel=EVERYDAY)
def runs(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many.")] = 20,
    output: AsOutput = Output.TEXT,
) -> None:
    """List past runs, newest first, with what they did."""
    from connector.commands.looking import show_runs

    here = session(config, env_file, secrets=False)
    with here.existing() as store:
        found = show_runs(store, here.named(connection), last, output is Output.TEXT)
    if output is Output.JSON:
        as_json({"command": "runs", "exit": 0, "runs": found})


@quota_app.callback()
def quota(
    context: typer.Context,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Show what is spent and left of the month, and how late rows will be; spends no request."""
    if context.invoked_subcommand is None:
        _show_quota("quota", session(config, env_file, secrets=False), connection, output)
    elif config or env_file or connection or output is not Output.TEXT:
        raise typer.BadParameter(f"Put options behind {context.invoked_subcommand}.")


@quota_app.command("set-used")
def quota_set_used(
    total: Annotated[int, typer.Argument(min=0, help="Requests of this month, by Beamer's dashboard.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Tell how many requests Beamer's dashboard shows as used this month; others spend them, too.

    Example: beamer-segment quota set-used 420
    """
    from connector.commands.quota import set_used

    here = session(config, env_file, secrets=False)
    chosen = here.settings.connection(connection)
    with here.existing() as store:
        set_used(here, store, chosen, total)
    _show_quota("quota set-used", here, chosen.name, output)


def _show_quota(command: str, here: "Session", connection: str | None, output: Output) -> None:
    from connector.commands.quota import show_quota

    with here.existing() as store:
        chosen = here.chosen(connection, every=connection is None)
        found = show_quota(here, store, chosen, output is Output.TEXT)
    if output is Output.JSON:
        as_json({"command": command, "exit": 0, "accounts": found})


@outbox_app.command("list")
def outbox_list(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only what Segment refused for good.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="How many.")] = 50,
    output: AsOutput = Output.TEXT,
) -> None:
    """List what waits for Segment and what it refused, oldest first, without texts."""
    from connector.commands.looking import show_outbox

    here = session(config, env_file, secrets=False)
    with here.existing() as store:
        found = show_outbox(
            store, here.named(connection), "dead" if dead else None, most, output is Output.TEXT
        )
    if output is Output.JSON:
        as_json({"command": "outbox list", "exit": 0, "messages": found})


Which = Annotated[list[str] | None, typer.Argument(help="Numbers or messageIds.", show_default=False)]


@outbox_app.command("show")
def outbox_show(
    which: Annotated[str, typer.Argument(help="A number or a messageId.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> None:
    """Print one message exactly as it is sent, and the answer it got."""
    from connector.commands.looking import show_message

    here = session(config, env_file, secrets=False)
    with here.existing() as store:
        show_message(store, which)


@outbox_app.command("retry")
def outbox_retry(
    which: Which = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that Segment refused.")] = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
) -> None:
    """Let refused messages wait again; the next sync sends them."""
    from connector.state.outbox import retry

    names = _named(which, every)
    here = session(config, env_file, secrets=False)
    name = here.named(connection)
    with here.existing() as store:
        count = retry(store, name, names) if store else 0
    say(f"{count} waiting again; the next sync sends them.")


@outbox_app.command("drop")
def outbox_drop(
    which: Which = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that is not in flight.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
) -> None:
    """Delete messages unsent. Their rows count as seen and are not sent again."""
    from connector.state.outbox import drop

    names = _named(which, every)
    here = session(config, env_file, secrets=False)
    name = here.named(connection)
    if not yes and not typer.confirm("They will never be sent. Go on?", err=True):
        raise typer.Exit(Exit.UNEXPECTED)
    with here.existing() as store:
        count = drop(store, name, names) if store else 0
    say(f"{count} dropped.")


def _named(which: list[str] | None, every: bool) -> list[str]:
    if bool(which) == every:
        raise typer.BadParameter("Name messages, or pass --all.")
    return which or []


@app.command(rich_help_panel=MORE)
def events(
    form: Annotated[
        Form,
        typer.Option("--format", help="tracking-plan: what Segment's Public API takes."),
    ] = Form.TABLE,
) -> None:
    """Describe every event: when it is sent, and what each property holds.

    Example: beamer-segment events --format tracking-plan > plan.json
    """
    from connector.commands.describing import describe

    describe(form)


@app.command(rich_help_panel=MORE)
def forget(
    user: Annotated[str, typer.Option("--user-id", help="The userId that you gave to Beamer.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: AsOutput = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Delete what waits, was refused or is in quarantine of a person, and never send them again.

    Example: beamer-segment forget --user-id 4711
    """
    from connector.commands import forgetting

    who = forgetting.form_of(user)
    here = session(config, env_file, secrets=False)
    if not yes and not typer.confirm("This cannot be undone. Go on?", err=True):
        raise typer.Exit(Exit.UNEXPECTED)
    with here.store(new_store) as store:
        done = forgetting.forget(here, store, forgetting.names_of(here, store, connection), who)
    if output is Output.TEXT:
        forgetting.show(done)
    else:
        as_json({"command": "forget", "exit": 0, "connections": done})


# --- the rest ------------------------------------------------------------------------------------------


@db_app.command("upgrade")
def db_upgrade(config: ConfigFile = None, env_file: EnvFile = None, new_store: NewStore = False) -> None:
    """Bring the state store to this version's schema; a SQLite file is copied beside itself first."""
    from connector.compose import open_any
    from connector.state import schema

    here = session(config, env_file, secrets=False)
    store = open_any(here.settings, new=new_store)
    try:
        before = schema.version(store)
        copy = None if before == schema.HEAD else schema.upgrade(store, here.clock.now())
        say(f"The state store was at revision {before or 'none'} and is at {schema.version(store)}.")
        if copy:
            say(f"The old file was kept as {copy}.")
    finally:
        store.close()


@config_app.command("show")
def config_show(config: ConfigFile = None, env_file: EnvFile = None, output: AsOutput = Output.TEXT) -> None:
    """Show the settings in force and where each came from; keys are not shown."""
    from connector.config import redacted

    here = session(config, env_file, secrets=False)
    shown = redacted(here.settings)
    if output is Output.TEXT:
        table("", ("setting", "value", "from"), [(each.name, each.value, each.source) for each in shown])
        for name in here.settings.ignored:
            complain(f"ignored: {name} looks like a setting of ours, but is none")
    else:
        settings = [{"name": each.name, "value": each.value, "source": each.source} for each in shown]
        ignored = list(here.settings.ignored)
        as_json({"command": "config show", "exit": 0, "settings": settings, "ignored": ignored})


@app.command(rich_help_panel=TRY)
def demo(
    seed: Annotated[int, typer.Option("--seed", help="Another made-up company.")] = 7,
) -> None:
    """Run the whole way on this machine: a made-up Beamer account, two syncs, a made-up Segment."""
    from connector.commands.trying import run_demo

    raise typer.Exit(run_demo(seed))


@app.command(rich_help_panel=TRY)
def sandbox(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65534, help="Beamer's port; Segment's is the next one.")
    ] = 8700,
    seed: Annotated[int, typer.Option("--seed", help="Another made-up company.")] = 7,
    speed: Annotated[float, typer.Option("--speed", min=0, help="Sandbox seconds in a real second.")] = 1.0,
    plan: Annotated[str, typer.Option("--plan", help="The account's plan.")] = "pro",
) -> None:
    """Serve a made-up Beamer account and a made-up Segment on loopback, until interrupted."""
    from connector.commands.trying import serve_sandbox

    serve_sandbox(port, seed, speed, plan)


def _version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; every error ends in a sentence and an exit code."""
    import sys

    from connector.ending import run

    run(lambda: app(prog_name="beamer-segment"), sys.argv[1:])

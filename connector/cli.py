"""The command line. Heavy libraries are imported where they are used, so that `--help` answers at once."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from connector import __version__
from connector.ending import stopping, worst
from connector.errors import Exit
from connector.helping import EVERYDAY, MORE, TRY, Grouped
from connector.output import as_json, complain, progress, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connector.commands.around import Around
    from connector.commands.session import Session
    from connector.commands.syncing import Wishes
    from connector.service.sharding import Shard

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
state_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A connection's state: moved to another database, or reset.",
)
config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The settings in force.")
app.add_typer(quota_app, name="quota", rich_help_panel=EVERYDAY)
app.add_typer(outbox_app, name="outbox", rich_help_panel=EVERYDAY)
app.add_typer(db_app, name="db", rich_help_panel=MORE)
app.add_typer(state_app, name="state", rich_help_panel=MORE)
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
EveryConnection = Annotated[bool, typer.Option("--all", help="Every connection, side by side.")]
OneShard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="INDEX/COUNT",
        help="Only this share of the connections, such as 0/5.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=64, help="How many connections to work on at once.", show_default=False
    ),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics-file", help="Write figures for node-exporter's textfiles.", show_default=False),
]
PingUrl = Annotated[
    str | None,
    typer.Option(
        "--ping-url",
        help="A dead man's switch: call it at the end, /fail behind it if need be.",
        show_default=False,
    ),
]


def _stream_names(incomplete: str) -> list[str]:
    """What a shell may complete a stream's name to."""
    from connector.config import STREAMS

    return [name for name in STREAMS if name.startswith(incomplete)]


StreamNames = Annotated[
    list[str] | None,
    typer.Option(
        "--stream",
        help="Only this stream and its parents; may be repeated.",
        autocompletion=_stream_names,
    ),
]
MostRequests = Annotated[
    int | None, typer.Option("--max-requests", min=0, help="Spend at most this many requests.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the probes and their cost; ask nobody anything.")
]


def session(
    config: Path | None,
    env_file: Path | None,
    *,
    secrets: bool = True,
    given: "Mapping[str, object] | None" = None,
) -> "Session":
    from connector.commands.session import begin

    return begin(config, env_file, secrets=secrets, given=given or {})


def looking(config: Path | None, env_file: Path | None) -> "Session":
    """For those who only look at the store: no keys, and nothing is logged."""
    from connector.commands.session import begin

    return begin(config, env_file, secrets=False, logs=False)


# --- everyday ------------------------------------------------------------------------------------------


@app.command(rich_help_panel=EVERYDAY)
def init(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="What it writes.", show_default="~/beamer-segment.env"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    new_store: NewStore = False,
) -> None:
    """Ask for both keys and what to read, check them, write an env file, and print the crontab line.

    Example: beamer-segment init --env-file ~/beamer-segment.env
    """
    from connector.commands.initializing import initialize

    raise typer.Exit(initialize(env_file, force=force, new_store=new_store))


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
    from connector.commands.checking import examine, show

    here = session(config, env_file)
    with here.store(new_store) as store:
        findings = examine(
            here, store, here.settings.connection(connection), offline=offline, send_test=send_test
        )
        found = []
        for finding in findings:
            found.append(finding)
            if output is Output.TEXT:
                show(finding)
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
    *,
    shard: str | None = None,
    workers: int | None = None,
    around: "Around | None" = None,
) -> NoReturn:
    """One run of each connection that was asked for, or what it would ask."""
    from connector.commands.around import Around
    from connector.commands.syncing import dry_runs, syncs

    if (every or shard) and connection:
        raise typer.BadParameter("--all and --shard exclude --connection.")
    chosen, around = here.chosen(connection, every, _shard(shard)), around or Around()
    text = output is Output.TEXT
    if dry_run:
        plans = dry_runs(here, chosen, wishes, text=text)
        if not text:
            as_json({"command": wishes.command, "dry_run": True, "exit": 0, "connections": plans})
        raise typer.Exit(0)
    at_once = min(workers or here.settings.workers, len(chosen) or 1)
    with around.run(here):
        with (
            here.store(new_store, at_once) as store,
            stopping(here.clock) as signalled,
            progress(wishes.doing, not around.quiet) as told,
        ):
            results = syncs(here, store, chosen, wishes, told, text=text, workers=at_once)
            around.look(here, store, chosen)
        around.code = signalled() or wishes.code(results)
        if not text:
            as_json({"command": wishes.command, "exit": around.code, "connections": results})
    raise typer.Exit(around.code)


def _shard(text: str | None) -> "Shard | None":
    from connector.service.sharding import parsed

    try:
        return None if text is None else parsed(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _around(quiet: bool, ping_url: str | None, metrics_file: Path | None) -> "Around":
    from connector.commands.around import Around, given_url

    try:
        return Around(quiet, given_url(ping_url), metrics_file)
    except ValueError as error:
        raise typer.BadParameter(f"--ping-url: {error}.") from None


@app.command(rich_help_panel=EVERYDAY)
def sync(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    shard: OneShard = None,
    workers: Workers = None,
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
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print nothing while all is well; report each new problem once.")
    ] = False,
    ping_url: PingUrl = None,
    metrics_file: MetricsFile = None,
    output: AsOutput = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Read what is new in Beamer and send it to Segment: one incremental run.

    Example: beamer-segment sync --env-file /etc/beamer-segment.env
    """
    from connector.commands.syncing import Wishes

    wishes = Wishes(tuple(stream or ()), max_requests, not no_deliver, strict, skip_exit_code)
    around = _around(quiet, ping_url, metrics_file)
    run_each(
        session(config, env_file),
        connection,
        every,
        wishes,
        dry_run,
        output,
        new_store,
        shard=shard,
        workers=workers,
        around=around,
    )


@app.command(rich_help_panel=EVERYDAY)
def audit(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    shard: OneShard = None,
    workers: Workers = None,
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

    wishes = Wishes(
        tuple(stream or ()), max_requests, deliver=True, strict=False, skip_exit=None, command="audit"
    )
    here = session(config, env_file)
    run_each(here, connection, every, wishes, dry_run, output, shard=shard, workers=workers)


@app.command(rich_help_panel=EVERYDAY)
def schedule(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    shard: OneShard = None,
    workers: Workers = None,
    interval: Annotated[
        str | None,
        typer.Option(
            "--interval", help="Shortest time between two syncs of a connection.", show_default=False
        ),
    ] = None,
    max_interval: Annotated[
        str | None, typer.Option("--max-interval", help="Longest time between them.", show_default=False)
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option(
            "--bind",
            metavar="HOST:PORT",
            help="Where status, health and metrics are served; or none.",
            show_default=False,
        ),
    ] = None,
    new_store: NewStore = False,
) -> None:
    """Sync every connection again and again, at a pace that its budget allows, until a signal comes.

    Example: beamer-segment schedule --config /etc/beamer-segment
    """
    from connector.commands import scheduling

    if shard and connection:
        raise typer.BadParameter("--shard excludes --connection.")
    given = {
        "CONNECTOR_WORKERS": workers,
        "CONNECTOR_INTERVAL": interval,
        "CONNECTOR_MAX_INTERVAL": max_interval,
        "CONNECTOR_BIND": bind,
    }
    here = session(config, env_file, given=given)
    chosen = here.chosen(connection, connection is None, _shard(shard))
    scheduling.schedule(here, chosen, new=new_store)


@app.command(rich_help_panel=EVERYDAY)
def backfill(
    since: Annotated[str, typer.Option("--since", help="The first date, such as 2024-01-01 (UTC).")],
    until: Annotated[
        str | None, typer.Option("--until", help="The date before which it ends.", show_default="now")
    ] = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    stream: Annotated[
        list[str] | None,
        typer.Option("--stream", help="Only this stream; may be repeated.", autocompletion=_stream_names),
    ] = None,
    max_requests: MostRequests = None,
    share: Annotated[
        str | None,
        typer.Option("--share", help="Spend at most this share of what is left of the month: 50%."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate what it costs, with a few counts at most, and end there."),
    ] = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="Send again what was sent, under the same messageId.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read a range once more that was brought already.")
    ] = False,
    integrations: Annotated[
        str | None,
        typer.Option("--integrations", help='Where history may go: \'{"All": false, "Amplitude": true}\'.'),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send to every destination without asking whether that is meant.")
    ] = False,
    output: AsOutput = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Bring history: rows older than the syncs' start date, with their own timestamps.

    It can be stopped at any time; the same command goes on where it stood, on any machine with the store.

    Example: beamer-segment backfill --since 2024-01-01 --max-requests 300
    """
    from connector.commands.backfilling import BackfillWishes
    from connector.commands.backfilling import backfill as bring
    from connector.config import values

    wishes = BackfillWishes(
        since=_parsed(values.moment, since, "--since"),
        until=_parsed(values.moment, until, "--until"),
        streams=tuple(stream or ()),
        max_requests=max_requests,
        share=_parsed(values.share, share, "--share"),
        resend=resend,
        again=again,
        integrations=_parsed(values.json_object, integrations, "--integrations"),
        dry_run=dry_run,
        yes=yes,
    )
    here = session(config, env_file)
    chosen = here.settings.connection(connection)
    with here.store(new_store) as store, stopping(here.clock) as signalled:
        result = bring(here, store, chosen, wishes, typer.confirm, text=output is Output.TEXT)
    code = signalled() or result["exit"]
    if output is Output.JSON:
        as_json({"command": "backfill", "exit": code, "connections": [result]})
    raise typer.Exit(code)


def _parsed(parse: Callable[[str], Any], word: str | None, option: str) -> Any:
    """An option's value by the same rules as a setting's; None where it was not given."""
    try:
        return None if word is None else parse(word)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint=option) from None


@app.command(rich_help_panel=EVERYDAY)
def status(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Show how each connection does, in one word and on one screen; spends no request.

    Example: beamer-segment status --output json
    """
    from connector.commands.looking import show_status

    here = looking(config, env_file)
    with here.existing() as store:
        found = show_status(
            here, store, here.chosen(connection, every=connection is None), output is Output.TEXT
        )
    if output is Output.JSON:
        as_json({"command": "status", "exit": 0, "connections": found})


@app.command(rich_help_panel=EVERYDAY)
def explain(
    row: Annotated[str, typer.Argument(help="A row's id in Beamer, or a messageId.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Tell what became of one row: when it was seen, how it was judged, whether it was delivered.

    Example: beamer-segment explain bmr1-6dcd4ce2-9b871512-comment-123-1234
    """
    from connector.commands.explaining import explain_row

    here = looking(config, env_file)
    with here.existing() as store:
        found = explain_row(store, here.named(connection), row, text=output is Output.TEXT)
    if output is Output.JSON:
        as_json({"command": "explain", "exit": 0, "rows": found})


@app.command(rich_help_panel=EVERYDAY)
def report(
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="The file to write; - prints it.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Write one page with pictures: quota, rows, delays, runs, completeness; spends no request.

    It is one file that needs no network. `schedule` serves the same page.

    Example: beamer-segment report --html report.html
    """
    from connector.commands import reporting

    here = session(config, env_file, secrets=False)
    to_stdout = str(html) == "-"
    if to_stdout and output is Output.JSON:
        raise typer.BadParameter("--html - and --output json both want standard output.")
    with here.existing() as store:
        chosen = here.chosen(connection, every=connection is None)
        if to_stdout:
            say(reporting.html(here, store, chosen))
            return
        done = reporting.write(here, store, chosen, html)
    if output is Output.JSON:
        as_json({"command": "report", "exit": 0, **done})
    else:
        say(f"Written to {done['file']}: {done['bytes'] / 1000:,.0f} kB.")


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

    here = looking(config, env_file)
    with here.existing() as store:
        found = show_runs(here, store, here.named(connection), last, output is Output.TEXT)
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
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="The first day that they were counted on (UTC).",
            show_default="as BEAMER_PERIOD_DAY tells",
        ),
    ] = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Tell how many requests Beamer's dashboard shows as used this month; others spend them, too.

    Unless BEAMER_PERIOD_DAY tells when its count began anew, --since has to, as soon as requests were sent
    from here on an earlier day: else nobody knows which of them the number holds.

    Example: beamer-segment quota set-used 420 --since 2024-03-15
    """
    from connector.commands.quota import set_used
    from connector.config import values

    first = _parsed(values.moment, since, "--since")
    here = session(config, env_file, secrets=False)
    chosen = here.settings.connection(connection)
    with here.existing() as store:
        set_used(here, store, chosen, total, first)
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

    here = looking(config, env_file)
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

    here = looking(config, env_file)
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
    if count:
        say(f"{count} waiting again; the next sync sends them.")
    else:
        say("Nothing was refused." if every else "None of them was refused.")


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
    if not yes:
        typer.confirm("This cannot be undone. Go on?", abort=True, err=True)
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


@state_app.command("export")
def state_export(
    file: Annotated[Path, typer.Argument(help="A file that is not there yet.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: AsOutput = Output.TEXT,
) -> None:
    """Write a connection's state into a file, to be imported into another database.

    Example: beamer-segment state export default.state
    """
    from connector.commands.moving import export, moved_lines

    here = session(config, env_file, secrets=False)
    with here.existing() as store:
        done = export(here, store, here.settings.connection(connection).name, file)
    if output is Output.JSON:
        as_json({"command": "state export", "exit": 0, **done})
    for line in moved_lines(done, "exported") if output is Output.TEXT else ():
        say(line)


@state_app.command("import")
def state_import(
    file: Annotated[Path, typer.Argument(help="A file that `state export` has written.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    output: AsOutput = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Read an exported state into the database that DATABASE_URL names, all of it or nothing.

    Example: DATABASE_URL=postgresql://user@host/name beamer-segment state import default.state
    """
    from connector.commands.moving import load, moved_lines

    here = session(config, env_file, secrets=False)
    with here.store(new_store) as store:
        done = load(store, file)
    if output is Output.JSON:
        as_json({"command": "state import", "exit": 0, **done})
    for line in moved_lines(done, "imported") if output is Output.TEXT else ():
        say(line)


@state_app.command("reset")
def state_reset(
    stream: Annotated[
        str,
        typer.Option(
            "--stream",
            help="Which stream is to be read from the start again.",
            autocompletion=_stream_names,
        ),
    ],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent again, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: AsOutput = Output.TEXT,
) -> None:
    """Forget what was seen of one stream: the next sync reads it from the start date again.

    Example: beamer-segment state reset --stream nps --dry-run
    """
    from connector.commands.moving import reset

    def make_sure() -> None:
        if not yes:
            typer.confirm("Its rows since the start date will be sent again. Go on?", abort=True, err=True)

    here = session(config, env_file, secrets=False)
    with here.existing() as store:
        name = here.settings.connection(connection).name
        done = reset(here, store, name, stream, make_sure, dry_run=dry_run, text=output is Output.TEXT)
    if output is Output.JSON:
        as_json({"command": "state reset", "exit": 0, "dry_run": dry_run, **done})


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
    seed: Annotated[int, typer.Option("--seed", help="Another number makes another company.")] = 7,
) -> None:
    """Run the whole way on this machine: a made-up Beamer account, three syncs, a made-up Segment."""
    from connector.commands.trying import run_demo

    raise typer.Exit(run_demo(seed))


@app.command(rich_help_panel=TRY)
def sandbox(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65534, help="Beamer's port; Segment's is the next one.")
    ] = 8700,
    seed: Annotated[int, typer.Option("--seed", help="Another number makes another company.")] = 7,
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

    groups = [str(group.name) for group in app.registered_groups]
    run(lambda: app(prog_name="beamer-segment", standalone_mode=False), sys.argv[1:], groups)

"""`quota`: the request budget of the month, and the requests that Beamer's dashboard shows as used."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from math import inf
from typing import Annotated

import typer

from connector import compose
from connector.cli.command import ConnectionName, Files, Group, Session, open_session, parsed, prints_result
from connector.cli.output import Output, Reporter, Result, echo_err, table_lines
from connector.config import Connection, values
from connector.domain.budget import PLANS, Balance, Limits
from connector.errors import ConfigurationError
from connector.reporting.quota import Offer, Outlook, Quota, events_by_stream, quota
from connector.reporting.rendering import spending_lines, unread_lines
from connector.state import connections, runs
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.sync.forecast import Forecast
from connector.sync.policy import Policy
from connector.text import counted

app = typer.Typer(rich_markup_mode=None)
quota_app = typer.Typer(cls=Group, invoke_without_command=True)
app.add_typer(quota_app, name="quota")

EVERY_PLAN = tuple(Connection(plan=plan) for plan in PLANS.values())


@quota_app.callback()
@prints_result
def quota_command(
    context: typer.Context, files: Files, reporter: Reporter, connection: ConnectionName = None
) -> Result | None:
    """Show the requests used and left this month, and how late rows will be; sends no request."""
    if context.invoked_subcommand is None:
        return _quotas(open_session(*files, secrets=False), connection)
    if any(files) or connection or reporter.output is not Output.TEXT:
        raise typer.BadParameter(f"Put options after {context.invoked_subcommand}.")
    return None


@quota_app.command("set-used")
@prints_result
def set_used(
    files: Files,
    total: Annotated[
        int, typer.Argument(min=0, help="Requests used this month, as Beamer's dashboard shows them.")
    ],
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="The first day of Beamer's count (UTC).", show_default="set by BEAMER_PERIOD_DAY"
        ),
    ] = None,
    connection: ConnectionName = None,
) -> Result:
    """Enter how many requests Beamer's dashboard shows as used this month.

    Beamer's number includes requests of other tools. If BEAMER_PERIOD_DAY is not set and this connector sent
    requests on earlier days, also give --since: it says which of these requests the number includes.

    Example: beamer-segment quota set-used 420 --since 2024-03-15
    """
    first = parsed(values.moment, since, "--since", values.A_DATE)
    session = open_session(*files, secrets=False)
    chosen = session.settings.connection(connection)
    with session.existing() as database:
        enter_used(session, database, chosen, total, first)
    return _quotas(session, chosen.name)


def enter_used(
    session: Session, database: Database | None, connection: Connection, total: int, since: datetime | None
) -> None:
    """Store how many requests of the account were used this month, as Beamer's dashboard shows them."""
    if database is None:
        raise ConfigurationError(
            "There is no database yet.",
            means="Nothing was stored.",
            todo="Run `beamer-segment check --offline`, which creates it, and then this command again.",
        )
    account = compose.account_of(database, connection)
    if account is None:
        raise ConfigurationError(
            f"Connection '{connection.name}' has not run yet and has no key, so its account is unknown.",
            means="Nothing was stored.",
            todo="Set BEAMER_API_KEY or BEAMER_ACCOUNT.",
        )
    now, ledger = session.clock.now(), Ledger(database, account, connection.name, compose.limits(connection))
    sent = ledger.set_used(total, now, since)
    if sent > total:
        first = since or ledger.balance(now).since
        echo_err(
            f"This connector alone sent {counted(sent, 'request')} since {first:%Y-%m-%d}, which is more: "
            "these count, and none of other tools."
        )


def _quotas(session: Session, name: str | None) -> Result:
    """Return the quota of each account of the chosen connections."""
    now = session.clock.now()
    names = {connection.name for connection in session.named(name)}
    with session.existing() as database:
        quotas = [
            _quota(database, sharing, now)
            for sharing in _accounts(database, session.settings.connections)
            if names & {connection.name for connection in sharing}
        ]
    data = {"accounts": [account.as_dict() for account in quotas]}
    return Result(data, chain.from_iterable(map(_lines, quotas)))


# --- what is asked for ----------------------------------------------------------------------------------


def _accounts(database: Database | None, configured: Sequence[Connection]) -> list[list[Connection]]:
    """Return the connections grouped by account and limits."""
    groups: dict[tuple[str | None, str], list[Connection]] = {}
    for connection in configured:
        account = compose.account_of(database, connection)
        groups.setdefault((account, "" if account else connection.name), []).append(connection)
    return list(groups.values())


def _quota(database: Database | None, sharing: Sequence[Connection], now: datetime) -> Quota:
    first, limits = sharing[0], compose.limits(sharing[0])
    names = [connection.name for connection in sharing]
    empty = Quota(compose.account_of(database, first), names, limits, first.limit_source)
    if database is None:
        return empty
    empty = replace(empty, events=events_by_stream(database, names, now))
    policies: dict[str, Policy] = {}
    for connection in sharing:
        identity = connections.known(database, connection.name)
        if identity and runs.recent(database, connection.name, 1):
            policies[connection.name] = compose.policy(connection, identity)
    return quota(database, empty, policies, _offers(limits), now)


def _offers(today: Limits) -> list[Offer]:
    """Return the plans with other limits than today's; plans with equal limits are one offer."""
    offers: dict[int | None, Offer] = {}
    for connection in EVERY_PLAN:
        limits = compose.limits(connection)
        offer = offers.get(limits.requests, Offer((), limits.requests, limits.usable))
        offers[limits.requests] = replace(offer, plans=(*offer.plans, connection.plan.name))
    others = (offer for offer in offers.values() if offer.usable != today.usable)
    return sorted(others, key=lambda offer: inf if offer.usable is None else offer.usable)


# --- for people -----------------------------------------------------------------------------------------


def _lines(account: Quota) -> Iterator[str]:
    names = ", ".join(account.connections)
    yield f"Account {account.account or 'of an unused key'} (connection {names}) – {account.limit_text}"
    budget = _budget(account, account.balance) if account.balance else ()
    for line in (*budget, *_outlook(account), *_events(account)):
        yield f"  {line}"
    if account.outlook:
        yield "  expected mean delay of rows, if the account's activity stays the same:"
        yield from table_lines("", ("plan", "requests", "mean delay"), _rows(account.outlook))


def _budget(account: Quota, balance: Balance) -> Iterator[str]:
    yield from spending_lines(balance)
    if balance.by_purpose:
        most_first = sorted(balance.by_purpose.items(), key=lambda pair: -pair[1])
        yield "by purpose: " + ", ".join(f"{what} {count:,}" for what, count in most_first)
    if balance.assumed:
        yield f"assumed to be used before the first run: {balance.assumed:,}; `quota set-used` corrects it"
    if balance.left is None:
        return
    limits = account.limits
    whole = counted(limits.requests or 0, "request")
    yield f"reserve for people and other tools: {limits.reserve:,} of {whole}"
    if balance.until:
        yield f"the month ends on {balance.until:%Y-%m-%d}"
    else:
        yield "BEAMER_PERIOD_DAY is not set: no 31 days in a row exceed the limit"
    if account.pace is None:
        yield "today's pace: known from the second day on"
        return
    yield f"today's pace: {account.pace:,.1f} requests a day; " + (
        (f"the rest would be used up on {account.runs_out:%Y-%m-%d}, but syncs use only available requests")
        if account.runs_out
        else "the rest lasts until the month ends"
    )


def _outlook(account: Quota) -> Iterator[str]:
    ahead = account.outlook
    if ahead is None:
        yield "never run"
        return
    yield from unread_lines(ahead.unread, ahead.read_by)
    yield (
        f"checking everything takes {counted(ahead.a_pass, 'request')}; with reading the changed lists, "
        f"once a day takes {counted(round(ahead.daily), 'request')} a month, once an hour {ahead.hourly:,.0f}"
    )
    rows = ", ".join(f"{stream} {number:,.0f}" for stream, number in ahead.rows.items())
    yield f"expected rows a month: {sum(ahead.rows.values()):,.0f} ({rows})"
    if ahead.today.audit_round:
        yield f"the audit reads every list once in {_lasting(ahead.today.audit_round)}"
    if ahead.every is None:
        yield "too few syncs to know their interval: one hour is assumed"
    if account.limits.requests is None:
        yield "without a limit, rows wait for half of the time between syncs"


def _events(account: Quota) -> Iterator[str]:
    """Return what Segment's bill may count: events, or the different users of a month."""
    if events := account.events:
        streams = ", ".join(f"{stream} {number:,}" for stream, number in events.items())
        total, users = counted(sum(events.values()), "event"), counted(account.most_users, "different user")
        yield f"sent to Segment in the last 30 days: {total} ({streams}), of at most {users}"


def _rows(ahead: Outlook) -> Iterator[list[str]]:
    per_day = ahead.today.per_day
    yield ["today", "no limit" if per_day is None else f"{per_day:,.1f} a day", _late(ahead.today)]
    for offer, at_budget in ahead.offers:
        yield ["/".join(offer.plans), _limit(offer.monthly), _late(at_budget)]


def _limit(monthly: int | None) -> str:
    return "no limit" if monthly is None else f"{monthly:,} a month"


def _late(at_budget: Forecast) -> str:
    if not at_budget.keeps_up:
        return "too few requests"
    return "–" if at_budget.mean is None else _lasting(at_budget.mean)


def _lasting(hours: float) -> str:
    if hours < 1.5:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"

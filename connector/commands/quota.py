"""`quota`: how the month's budget lasts, and what Beamer's dashboard says of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import Any

from connector import compose
from connector.commands.session import Session
from connector.config import Connection
from connector.errors import ConfigurationError
from connector.output import complain, say, table
from connector.plans import PLANS
from connector.service.quota import Offer, Outlook, Quota, quota
from connector.service.screen import spending_lines, unread_lines
from connector.state import connections, runs
from connector.state.engine import Store
from connector.state.ledger import Balance, Ledger, Limits
from connector.sync.forecasting.forecast import Forecast
from connector.sync.policy import Policy

EVERY_PLAN = tuple(Connection(plan=plan) for plan in PLANS.values())


def show_quota(
    here: Session, store: Store | None, chosen: Sequence[Connection], text: bool
) -> list[dict[str, Any]]:
    """The quota of each account that the chosen connections draw on; printed, too, when it is for people."""
    now, names = here.clock.now(), {each.name for each in chosen}
    found = [
        _looked_up(store, sharing, now)
        for sharing in _accounts(store, here.settings.connections)
        if names & {each.name for each in sharing}
    ]
    if text:
        for each in found:
            _print(each)
    return [each.as_dict() for each in found]


def set_used(
    here: Session, store: Store | None, connection: Connection, total: int, since: datetime | None
) -> None:
    """Write down how many requests Beamer's dashboard shows as used this month, or since a day."""
    if store is None:
        raise ConfigurationError(
            "There is no state store yet.",
            means="Nothing was written down.",
            todo="Run `beamer-segment check --offline`, which makes one, and then this again.",
        )
    account = compose.account_of(store, connection)
    if account is None:
        raise ConfigurationError(
            f"Connection '{connection.name}' has not run yet and has no key, which names its account.",
            means="Nothing was written down.",
            todo="Set BEAMER_API_KEY or BEAMER_ACCOUNT.",
        )
    now, ledger = here.clock.now(), Ledger(store, account, connection.name, compose.limits(connection))
    own = ledger.set_used(total, now, since)
    if own > total:
        first = since or ledger.balance(now).since
        complain(
            f"More requests than that were sent from here since {first:%Y-%m-%d}, namely {own:,}: these "
            "count, and none as spent elsewhere."
        )


# --- what is asked for ----------------------------------------------------------------------------------


def _accounts(store: Store | None, known: Sequence[Connection]) -> list[list[Connection]]:
    """Connections that draw on one account, under the same limits, belong together."""
    groups: dict[tuple[str | None, str], list[Connection]] = {}
    for each in known:
        account = compose.account_of(store, each)
        groups.setdefault((account, "" if account else each.name), []).append(each)
    return list(groups.values())


def _looked_up(store: Store | None, sharing: Sequence[Connection], now: datetime) -> Quota:
    first, limits = sharing[0], compose.limits(sharing[0])
    names = [each.name for each in sharing]
    asked = Quota(compose.account_of(store, first), names, limits, first.limit_text)
    if store is None:
        return asked
    policies: dict[str, Policy] = {}
    for each in sharing:
        found = connections.known(store, each.name)
        if found and runs.recent(store, each.name, 1):
            policies[each.name] = compose.policy(each, found)
    return quota(store, asked, policies, _offers(limits), now)


def _offers(today: Limits) -> list[Offer]:
    """The plans with other limits than today's; those with the same limit are one offer."""
    found: dict[int | None, Offer] = {}
    for each in EVERY_PLAN:
        limits = compose.limits(each)
        offer = found.get(limits.requests, Offer((), limits.requests, limits.usable))
        found[limits.requests] = replace(offer, plans=(*offer.plans, each.plan.name))
    others = (offer for offer in found.values() if offer.usable != today.usable)
    return sorted(others, key=lambda offer: inf if offer.usable is None else offer.usable)


# --- for people -----------------------------------------------------------------------------------------


def _print(found: Quota) -> None:
    names = ", ".join(found.connections)
    say(f"Account {found.account or 'of a key not yet seen'} (connection {names}) – {found.limit_text}")
    for line in (*(_budget(found, found.balance) if found.balance else ()), *_outlook(found)):
        say(f"  {line}")
    if found.outlook:
        say("  how late rows will be on average, if the account's life goes on as it is:")
        table("", _columns(found.outlook), _rows(found.outlook))


def _budget(found: Quota, balance: Balance) -> Iterator[str]:
    yield from spending_lines(balance)
    if balance.by_purpose:
        most_first = sorted(balance.by_purpose.items(), key=lambda item: -item[1])
        yield "by what: " + ", ".join(f"{what} {count:,}" for what, count in most_first)
    if balance.assumed:
        yield f"assumed to be spent before the first run: {balance.assumed:,}; `quota set-used` tells better"
    if balance.left is None:
        return
    yield f"kept in reserve for people and other tools: {found.limits.reserve:,} of {found.limits.requests:,}"
    if balance.until:
        yield f"the period ends on {balance.until:%Y-%m-%d}"
    else:
        yield "the period's first day is unknown: no 31 days in a row exceed the limit (BEAMER_PERIOD_DAY)"
    yield f"today's pace: {found.pace:,.1f} a day; " + (
        f"at this pace the rest is spent on {found.runs_out:%Y-%m-%d}, but syncs are held to what comes in"
        if found.runs_out
        else "the rest is not spent before the period ends"
    )


def _outlook(found: Quota) -> Iterator[str]:
    ahead = found.outlook
    if ahead is None:
        yield "never run"
        return
    yield from unread_lines(ahead.unread, ahead.read_by)
    yield (
        f"looking everywhere takes {ahead.a_pass:,} requests; with the lists that move, once a day takes "
        f"{ahead.daily:,.0f} a month, once an hour {ahead.hourly:,.0f}"
    )
    if ahead.today.audit_round:
        yield f"the audit reads every list once in {_lasting(ahead.today.audit_round)}"
    if ahead.every is None:
        yield "too few syncs to know how often they come: once an hour is assumed"
    if found.limits.requests is None:
        yield "without a limit, rows wait for half the time between syncs"


def _columns(ahead: Outlook) -> list[str]:
    offers = [f"{'/'.join(offer.plans)}: {_limit(offer.monthly)}" for offer, _ in ahead.offers]
    per_day = ahead.today.per_day
    today = "today" if per_day is None else f"today: {per_day:,.1f} a day"
    return ["stream", "rows a month", today, *offers]


def _rows(ahead: Outlook) -> Iterator[list[str]]:
    forecasts = [ahead.today, *(found for _, found in ahead.offers)]
    for stream, rows in ahead.rows.items():
        yield [stream, f"{rows:,.0f}", *(_late(found, found.delays.get(stream)) for found in forecasts)]
    whole = f"{sum(ahead.rows.values()):,.0f}"
    yield ["all", whole, *(_late(found, found.mean) for found in forecasts)]


def _limit(monthly: int | None) -> str:
    return "no limit" if monthly is None else f"{monthly:,}"


def _late(found: Forecast, hours: float | None) -> str:
    if not found.keeps_up:
        return "ever later"
    return "–" if hours is None else _lasting(hours)


def _lasting(hours: float) -> str:
    if hours < 1.5:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"

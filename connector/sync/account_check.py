"""Prove that a changed Beamer key or address belongs to the same account: Beamer shows known rows.

If no row is known, the URL of the account's feed is compared.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog

from connector.beamer.pagination import Answer, BeamerRequest, Cursor, Habits, params_of
from connector.beamer.rows import Row, parse
from connector.beamer.streams import CATALOGUE, Stream
from connector.errors import (
    BadAnswer,
    Forbidden,
    Gone,
    KeyRefused,
    NoBudget,
    NotSent,
    Stopped,
    Transient,
    Unreachable,
)
from connector.state.connections import (
    NO_FEED,
    Identity,
    KeyChange,
    KeyVerdict,
    OtherAccount,
    key_digest,
    needs_feed,
    set_feed,
)
from connector.state.engine import Database
from connector.state.leases import Lease
from connector.state.progress import KnownList, known_lists, shows_known_row
from connector.sync.context import RunContext
from connector.sync.lists.backoff import wait_before
from connector.sync.planning import candidates
from connector.sync.policy import Policy
from connector.sync.report import Report

log = structlog.get_logger()

FEED = BeamerRequest("/url")
# The purpose that its requests are charged to.
ACCOUNT = "account"
UNCLEAR = "Beamer's answer does not show which account the key belongs to"

# Sends a request that is charged to a stream, and returns the answer.
Get = Callable[[str, BeamerRequest], Answer]


def prove_account(context: RunContext, report: Report, chance: Callable[[], float] = random.random) -> bool:
    """Return whether a changed key or address was proved to be the account's, if a proof is needed.

    Raises OtherAccount if it is another account's, and the error if Beamer cannot answer. Writes only the
    requests in the ledger.
    """
    if context.change.verdict is not KeyVerdict.COMPARE:
        return True

    def get(stream: str, request: BeamerRequest) -> Answer:
        failures = 0
        while True:
            try:
                return answer_to(context, report, stream, request, beyond_bucket=True)
            except Transient as error:
                failures += 1
                wait = wait_before(failures, error, chance())
                if wait is None or context.clock.stopped:
                    raise Unreachable(f"Beamer cannot be reached: {error.what}") from None
                context.clock.sleep(wait)

    try:
        compare_account(context.database, context.identity, context.policy, context.change, get)
    except NoBudget as error:
        # Messages that wait for Segment are sent nevertheless.
        report.stop(f"{error.what.rstrip('.')}, and the changed key is not compared yet", error.until)
        return False
    log.info("key_recognized", changed=context.change.named)
    return True


def answer_to(
    context: RunContext,
    report: Report,
    purpose: str,
    request: BeamerRequest,
    *,
    lease: Lease | None = None,
    beyond_bucket: bool = False,
) -> Answer:
    """Send one request and return the answer; it is charged to the purpose unless it was never sent."""
    with context.ledger.taken(purpose, context.clock.now(), lease=lease, beyond_bucket=beyond_bucket) as at:
        report.requests[purpose] += 1
        try:
            return context.beamer.get(request, at)
        except (NotSent, Stopped):
            report.requests[purpose] -= 1
            raise


def compare_account(
    database: Database, identity: Identity, policy: Policy, change: KeyChange, get: Get
) -> None:
    """Request the known lists of the account, until one shows a known row.

    Raises OtherAccount if none does, or, if no list is known, if the account has another feed.
    """
    wanted = {stream.name for stream in candidates.wanted(CATALOGUE, policy)}
    known = sorted(
        known_lists(database, identity.name), key=lambda known_list: known_list.stream not in wanted
    )
    compared, forbidden = [], []
    for known_list in known:
        try:
            answer = _answer(CATALOGUE[known_list.stream], known_list, identity, get)
        except Forbidden:
            forbidden.append(known_list.stream)
            continue
        compared.append(known_list.stream)
        if shows_known_row(database, known_list, _dates(answer.body)):
            return
    if not compared and forbidden:
        raise KeyRefused(
            f"The Beamer key may read none of the streams that show its account ({', '.join(forbidden)}: "
            "403).",
            means="Nothing was read.",
            todo="Give it read permissions under Settings > API in Beamer, or use another key.",
        )
    now_used = f"With {change.named} that connection '{identity.name}' uses now, Beamer"
    if known:
        what = f"{now_used} shows none of its known rows of {' and '.join(compared)}."
        raise OtherAccount(what, todo=change.todo)
    if change.feed and feed_of(get) not in (change.feed, NO_FEED):
        raise OtherAccount(f"{now_used} names the URL of another feed than before.", todo=change.todo)


def feed_of(get: Get) -> str:
    """Return the digest of the URL of the account's feed; NO_FEED if Beamer does not show it."""
    try:
        body = get(ACCOUNT, FEED).body
    except (Forbidden, Gone, BadAnswer):
        return NO_FEED
    url = body.get("url") if isinstance(body, dict) else body
    try:
        parts = urlsplit(url.strip()) if isinstance(url, str) else None
    except ValueError:
        return NO_FEED
    if parts is None or not parts.hostname:
        return NO_FEED
    # Any part of the URL may name the account.
    return key_digest(f"feed {parts.hostname}{parts.path.rstrip('/')}?{parts.query}")


def learn_feed(context: RunContext, lease: Lease, report: Report, most_requests: int | None) -> None:
    """Request the feed's URL, once for each Beamer key, if no row will show which account it belongs to.

    Raises Busy when the lease is lost; any other failure is for the next run.
    """
    database, name = context.database, context.identity.name
    over = report.stopped or report.has_spent(most_requests)
    if over or known_lists(database, name) or not needs_feed(database, name):
        return
    get = partial(answer_to, context, report, lease=lease)
    try:
        set_feed(database, lease, feed_of(get), context.clock.now())
    except (NoBudget, Stopped, Transient, KeyRefused) as error:
        log.info("feed_unknown", error=error.what)


def _answer(stream: Stream, known_list: KnownList, identity: Identity, get: Get) -> Answer:
    cursor = Cursor.around(known_list.since, known_list.until)
    params = {**stream.params, **params_of(cursor, Habits(first_page=identity.first_page), stream.cap)}
    try:
        if stream.filtered and identity.ignore_filters:
            with suppress(Forbidden):
                return get(
                    stream.name, BeamerRequest(stream.path, (*params.items(), ("ignoreFilters", "true")))
                )
        return get(stream.name, BeamerRequest(stream.path, tuple(params.items())))
    except (BadAnswer, Gone) as error:
        raise Unreachable(f"{UNCLEAR}: {error.what}") from None


def _dates(body: Any) -> dict[str, datetime]:
    if not isinstance(body, list):
        raise Unreachable(f"{UNCLEAR}: it is not a list.")
    rows = (parse(raw, {}) for raw in body)
    return {row.id: row.date for row in rows if isinstance(row, Row)}

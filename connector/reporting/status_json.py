"""The status as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from connector.clock import plain
from connector.reporting.health import Health, Problem, health, problems
from connector.reporting.status import Status, StreamStatus
from connector.state.backfills import Backfill
from connector.state.suspensions import Refusal


def as_dict(status: Status) -> dict[str, Any]:
    """All of it; what is not known is null."""
    balance, who = status.balance, status.identity
    word, why = health(status)
    newest = status.newest
    return {
        "connection": status.name,
        **verdict(word, why),
        "problems": [asdict(each) for each in problems(status)],
        "account": who and who.account,
        "destination": who and who.destination,
        "start_date": plain(who.start_date) if who else None,
        "limit": status.limit_text,
        "requests_used": balance and balance.used,
        "requests_left": balance and balance.left,
        "requests_available": balance and balance.level,
        "requests_per_day": balance and balance.per_day,
        "requests_usable": status.usable,
        "requests_even": None if status.even is None else status.even * (status.usable or 0),
        "requests_since": plain(balance.since) if balance else None,
        "requests_until": plain(balance.until) if balance else None,
        "requests_again_at": plain(balance.again) if balance else None,
        "closed_until": plain(balance.closed_until) if balance else None,
        "suspended": _refusal_dict(status.suspended),
        "lists_never_read": sum(status.unread.lists.values()) if status.unread else None,
        "read_by": plain(status.read_by),
        "held_back": dict(status.held),
        "outbox": dict(status.outbox or {}),
        "waiting": [_row(asdict(each)) for each in status.waiting],
        "segmented_posts_hidden": bool(who and who.ignore_filters is False),
        "newest_stream": newest and newest.name,
        "newest": plain(newest.newest) if newest else None,
        "newest_delay_seconds": newest and newest.delay,
        "streams": [_stream_dict(stream) for stream in status.streams],
        "last_run": _row(status.last_run) if status.last_run else None,
        "last_success": plain(status.succeeded),
        "seconds_between_syncs": status.every.total_seconds() if status.every else None,
        "runs": [_row(asdict(run)) for run in status.runs],
        "at_work": [_row(asdict(holder)) for holder in status.holders],
        "backfills": [backfill_dict(each) for each in status.backfills],
    }


def verdict(word: Health, why: Problem | None) -> dict[str, Any]:
    """A connection's health, and the worst thing that is not as it should be."""
    found, todo = (why.found, why.todo) if why else (None, None)
    return {"health": word.word, "grade": word.grade, "why": found, "todo": todo}


def _stream_dict(stream: StreamStatus) -> dict[str, Any]:
    return {
        "stream": stream.name,
        "checked_at": plain(stream.checked_at),
        "complete_through": plain(stream.complete_through),
        "newest": plain(stream.newest),
        "newest_delay_seconds": stream.delay,
        "counts": dict(stream.counts),
        "lists_waiting": stream.lists_waiting,
        "lists_never_read": stream.lists_unread,
        "still_discovering": stream.discovering,
        "counters_trusted": stream.counters_trusted,
        "quarantined": dict(stream.quarantined),
        "trouble": stream.trouble,
        "trouble_at": plain(stream.trouble_at),
    }


def _refusal_dict(refusal: Refusal | None) -> dict[str, Any] | None:
    if refusal is None:
        return None
    return {"api": refusal.api, "since": plain(refusal.since), "what": refusal.what}


def backfill_dict(backfill: Backfill) -> dict[str, Any]:
    """A backfill as plain data."""
    return {
        "id": backfill.id,
        "since": plain(backfill.wanted.since),
        "until": plain(backfill.wanted.until),
        "streams": list(backfill.wanted.streams),
        "resend": backfill.wanted.resend,
        "integrations": backfill.integrations,
        "began_at": plain(backfill.began_at),
        "finished_at": plain(backfill.finished_at),
        "requests": backfill.requests,
        "requests_expected": backfill.expected,
        "rows": backfill.rows,
        "events": backfill.events,
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}

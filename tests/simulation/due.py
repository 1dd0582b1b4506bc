"""What must have come: rows that Beamer shows to everybody, long enough, and that the settings send."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta

from connector.sandbox import Row
from tests.simulation import oracle
from tests.simulation.plan import MOVED, Member
from tests.simulation.universe import Universe

Key = tuple[str, str, str]  # the member's name, the stream and the row's id
List = tuple[str, str, str]  # the member's name, the stream and the parent's id, if there is one
HALF_READ = """
SELECT connection, name, '' FROM beamer_segment_stream WHERE cursor IS NOT NULL
UNION ALL
SELECT connection, name, parent FROM beamer_segment_stream JOIN beamer_segment_child AS list USING (scope)
WHERE list.cursor IS NOT NULL
"""


def missing(
    universe: Universe,
    found: Mapping[Key, int],
    *,
    lag: timedelta,
    everything: bool = False,
    parents: bool = False,
    half_read: Collection[List] = (),
    sure: Callable[[Row], bool] = lambda _: True,
) -> list[str]:
    """Rows that have not arrived, less those that wait or were refused.

    Unless `everything`, a row is left out where a row of its list has gone, since the counter may not
    have moved, or where only an audit can find it. `parents`: also below those that came belatedly.
    Lists that were `half_read` may have shown a row on a page that was read before it came. Only rows that
    are `sure` are looked for.
    """
    waits = waiting(universe) | universe.dropped
    return [
        f"{member.name}: {row.stream} {row.id} of {row.date:%d %H:%M:%S}"
        for member in universe.plan.members
        for row in _sent(universe, member, universe.now() - lag, parents=parents)
        if not found.get((member.name, row.stream, row.id))
        and sure(row)
        and (everything or not _only_by_audit(universe, row, member))
        and not is_among(waits, row, member)
        and (member.name, row.stream, row.parent_id or "") not in half_read
    ]


def half_read(universe: Universe) -> set[List]:
    """The lists whose reading was cut short and will be taken up again."""
    with closing(universe.disk.opened()) as db:
        try:
            return {*db.execute(HALF_READ)}
        except sqlite3.OperationalError:  # nothing has been made yet
            return set()


def waiting(universe: Universe) -> set[str]:
    """messageIds in the outbox, dead letters included."""
    with closing(universe.disk.opened()) as db:
        return {row[0] for row in db.execute("SELECT message_id FROM beamer_segment_outbox")}


def is_among(ids: Collection[str], row: Row, member: Member) -> bool:
    """Whether a row's message is among some, wherever it was to go."""
    return any(oracle.message_id(row, where) in ids for where in (member.destination, MOVED))


def _sent(universe: Universe, member: Member, now: datetime, *, parents: bool) -> Iterator[Row]:
    """The rows that were there at a moment and are there still."""
    start = universe.starts[member.name]
    for stream in member.streams:
        if stream not in universe.box.switches.may_read:
            continue
        for row in universe.box.world._by_id[stream].values():
            if row.deleted_s is not None or row.hidden or row.appears > now:
                continue
            if (stream, row.id) in universe.happenings.quarantined:
                continue
            if universe.box.switches.nps_text_later and row.text_s > now.timestamp():
                # Its text was still being typed.
                continue
            if not _shown(universe, row.parent or row, member, now, parents=parents):
                continue
            if oracle.fate(row, member, start, now).what == "sent":
                yield row


def _shown(universe: Universe, parent: Row, member: Member, now: datetime, *, parents: bool) -> bool:
    """Whether Beamer's lists show a parent to this connection."""
    if parent.stream == "nps":
        return True
    name, switches = (parent.stream, parent.id), universe.box.switches
    if parent.deleted_s is not None or max(parent.date, parent.appears) > now:
        return False
    if name in universe.happenings.quarantined or parent.stream not in switches.may_read:
        return False
    if not parents and name in universe.happenings.belated:
        return False
    allowed = switches.ignore_filters_allowed and member.ignore_filters is not False
    return allowed or not parent.fields.get("filter")


def _only_by_audit(universe: Universe, row: Row, member: Member) -> bool:
    if (row.stream, row.id) in universe.happenings.mended:
        return True
    others = universe.box.world._by_id[row.stream].values()
    if row.stream == "nps":
        # There is no counter: what comes behind the lookback is found by counting.
        newest = max((each.date for each in others if each.appears < row.appears), default=row.date)
        return row.date < newest - member.lookback
    return any(each.parent is row.parent and (each.deleted_s is not None or each.hidden) for each in others)

"""What the database holds after a run, read past the connector's own code."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.simulation.crashes import Disk

Key = tuple[str, str, str]  # the connection, the stream and the row's, parent's or message's id


class List(NamedTuple):
    """A list; that of posts, feature requests or responses has no counters."""

    counter: str | None
    read_counter: str | None
    surplus: int
    cursor: str | None
    fell: bool
    failures: int
    short_since: Any

    @property
    def has_hole(self) -> bool:
        return self.cursor is not None and '"parts"' in self.cursor


class Stream(NamedTuple):
    order: str
    short_ends: bool | None
    page_rows: int | None
    distrusted: bool
    trouble_code: str | None


class Parent(NamedTuple):
    gone: bool
    failures: int
    other_shown: int
    changes: int


class Queued(NamedTuple):
    connection: str
    state: str
    tries: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`new_rows` are those that runs from number `since` on have judged, with their verdicts."""

    streams: Mapping[tuple[str, str], Stream] = field(default_factory=dict)
    lists: Mapping[Key, List] = field(default_factory=dict)
    parents: Mapping[Key, Parent] = field(default_factory=dict)
    outbox: Mapping[str, Queued] = field(default_factory=dict)
    quarantine: frozenset[Key] = frozenset()
    hints: Mapping[Key, int] = field(default_factory=dict)
    new_rows: Mapping[Key, int] = field(default_factory=dict)
    rows: int = 0
    last_run: int = 0
    closed: bool = False
    first_page: int | None = None


STREAMS = (
    "SELECT connection, name, list_order, short_ends, page_rows, distrusted, trouble_code, cursor, failures"
)
LISTS = "counter, read_counter, surplus, list.cursor, fell, list.failures, short_since"
OF_STREAM = "JOIN beamer_segment_stream AS stream USING (scope)"


def taken(disk: Disk, since: int = 0) -> Snapshot:
    """Read the database as it stands."""
    with closing(disk.opened()) as db:

        def all_of(query: str, *values: Any) -> list[Any]:
            return list(db.execute(query, values).fetchall())

        streams = all_of(f"{STREAMS} FROM beamer_segment_stream")
        lists = all_of(
            f"SELECT connection, name, list.parent, {LISTS} FROM beamer_segment_child AS list {OF_STREAM}"  # noqa: S608
        )
        parents = all_of(
            "SELECT connection, name, parent.id, gone, parent.failures, other_shown, changes "  # noqa: S608
            f"FROM beamer_segment_parent AS parent {OF_STREAM}"
        )
        new_rows = all_of(
            f"SELECT connection, name, judged.id, verdict FROM beamer_segment_row AS judged {OF_STREAM} "  # noqa: S608
            "WHERE run >= ?",
            since,
        )
        outbox = all_of("SELECT message_id, connection, state, tries FROM beamer_segment_outbox")
        quarantine = all_of('SELECT connection, stream, "row" FROM beamer_segment_quarantine')
        hints = all_of("SELECT connection, stream, parent, waiting FROM beamer_segment_hint")
        [(rows,)] = all_of("SELECT count(*) FROM beamer_segment_row")
        [(last_run,)] = all_of("SELECT coalesce(max(id), 0) FROM beamer_segment_run")
        closed = all_of("SELECT 1 FROM beamer_segment_account WHERE closed_until IS NOT NULL")
        connections = all_of("SELECT first_page FROM beamer_segment_connection WHERE first_page IS NOT NULL")
    whole = {(row[0], row[1], ""): List(None, None, 0, row[7], False, row[8], None) for row in streams}
    return Snapshot(
        {(row[0], row[1]): Stream(*row[2:7]) for row in streams},
        whole | {row[:3]: List(*row[3:]) for row in lists},
        {row[:3]: Parent(*row[3:]) for row in parents},
        {row[0]: Queued(*row[1:]) for row in outbox},
        frozenset(quarantine),
        {row[:3]: row[3] for row in hints},
        {row[:3]: row[3] for row in new_rows},
        rows,
        last_run,
        bool(closed),
        max((row[0] for row in connections), default=None),
    )

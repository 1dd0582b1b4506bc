"""Holds what Segment has against what Beamer showed: after each sync what is new, at the end everything."""

import json
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from typing import Any

from connector.sandbox import Row
from connector.sync.context import Constants
from tests.simulation import oracle
from tests.simulation.chains import judge_chains
from tests.simulation.due import Key, is_among, waiting
from tests.simulation.oracle import EVENT, STREAM, Expected
from tests.simulation.plan import MOVED, Member
from tests.simulation.snapshot import Snapshot
from tests.simulation.storage import charged
from tests.simulation.universe import Universe
from tests.simulation.wrong import Wrong

OF_CHANGES = ("Feature Request Status Changed", "Post Metrics Updated", "Beamer Sync Completed")
STATUSES = ("under_review", "planned", "in_progress", "complete")
MOST_WORDS = 32_000
VERDICTS = {1: "sent", 2: "no_user", 3: "team", 4: "stream_off", 5: "quarantined"}


class Judge:
    """One life's judge; every method raises Wrong with the first thing that must not be."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self._members = {member.destination: member for member in universe.plan.members}
        self._members[MOVED] = universe.plan.members[0]
        self._read = self._landed = 0
        self._bodies: dict[str, str] = {}
        self.found: dict[Key, int] = defaultdict(int)
        self.changes: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        self._twice: set[Key] = set()
        self._excused: set[Key] = set()
        self._reported: dict[int, int] = {}
        self._reported_before = 0
        self.renumbered: set[str] = set()
        """Parents whose changes are numbered again from an earlier one on."""
        self._deaths = 0
        self._strangers: dict[str, str] = {}

    # --- what has come since ---

    def check(self) -> None:
        """Judge what Segment has received since the last check."""
        self._note_reports()
        segment = self._universe.box.segment
        if segment.dropped:
            raise Wrong(f"Segment drops a message without a word: {segment.dropped[0].reason}")
        for message in segment.received[self._read :]:
            self._same(message)
        self._read = len(segment.received)
        for landed in segment.landed[self._landed :]:
            destination = landed.write_key.removeprefix("key-of-")
            self._arrived(landed.message, self._members[destination], destination, landed.at)
        self._landed = len(segment.landed)
        if self._universe.deaths > self._deaths:
            # Whoever died, or lost the database, cannot report what it sent.
            self._excused |= self._twice
            self._deaths = self._universe.deaths

    def _same(self, message: dict[str, Any]) -> None:
        """Whatever is sent again is the same, and nothing has two ids."""
        name, body = message["messageId"], json.dumps(message, sort_keys=True)
        if self._bodies.setdefault(name, body) != body:
            raise Wrong(f"{name} was sent with two contents")

    def _arrived(self, message: dict[str, Any], member: Member, destination: str, at: datetime) -> None:
        name = message["event"]
        if name in OF_CHANGES:
            self._changed(message, member)
            return
        stream = STREAM[name]
        row_id = str(message["properties"][EVENT[stream][2]])
        key = (member.name, stream, row_id)
        self.found[key] += 1
        if self.found[key] > 1:
            self._twice.add(key)
            self._universe.tell(f"{message['messageId']} is there twice")
        row = self.row(stream, row_id)
        if row is None or row.hidden or row.appears > at:
            raise Wrong(f"{name} {row_id}: Beamer never showed it")
        start = self._universe.starts[member.name]
        decided = oracle.fate(row, member, start, self._universe.now())
        if (stream, row_id) in self._universe.happenings.quarantined or decided.what != "sent":
            raise Wrong(f"{name} {row_id} is not to be sent: {decided.what} {decided.why}")
        self._compare(message, oracle.expected(row, member, destination, STATUSES), member, row)

    def row(self, stream: str, row_id: str) -> Row | None:
        return self._universe.box.world._by_id[stream].get(row_id)

    def _compare(self, message: dict[str, Any], want: Expected, member: Member, row: Row) -> None:
        def differ(what: str, found: object, wanted: object) -> Wrong:
            return Wrong(f"{want.name} {row.id}: {what} is {found!r}, not {wanted!r}")

        if message["messageId"] != want.message_id:
            raise differ("messageId", message["messageId"], want.message_id)
        if message.get("userId") != want.user:
            raise differ("userId", message.get("userId"), want.user)
        anonymous = message.get("anonymousId")
        shared = f"beamer-{member.name}"
        if (anonymous == shared) != (want.anonymous == "shared") or bool(anonymous) != bool(want.anonymous):
            raise differ("anonymousId", anonymous, want.anonymous)
        if want.anonymous == "own":
            self._stranger(anonymous, want, row)
        if datetime.fromisoformat(message["timestamp"]) != want.timestamp:
            raise differ("timestamp", message["timestamp"], want.timestamp)
        self._compare_properties(message["properties"], want, differ)
        traits = message["context"].get("traits", {})
        wanted = {"email": want.email} if want.email and want.user and member.traits != "none" else {}
        if member.traits != "all" and want.anonymous != "own" and traits != wanted:
            raise differ("traits", traits, wanted)
        if (member.traits == "none" or want.anonymous == "shared") and traits:
            raise differ("traits", traits, {})

    def _compare_properties(self, found: dict[str, Any], want: Expected, differ: Any) -> None:
        found = {name: value for name, value in found.items() if value is not None}
        wanted = {name: value for name, value in want.properties.items() if value is not None}
        cut = found.pop("truncated", None)
        short = wanted.pop("truncated", None)
        for name in {*found, *wanted}:
            allowed = (wanted.get(name), *want.maybe.get(name, ()))
            if found.get(name) in allowed:
                continue
            whole = wanted.get(name)
            if cut and _is_long(whole) and str(whole).startswith(str(found.get(name, ""))):
                continue
            raise differ(name, found.get(name), wanted.get(name))
        long = any(
            isinstance(each, str) and len(json.dumps(each)) > MOST_WORDS / 2 for each in wanted.values()
        )
        if bool(cut) != bool(short) and not long:
            raise differ("truncated", cut, short)

    def _stranger(self, anonymous: str | None, want: Expected, row: Row) -> None:
        """One person's id is always the same, and nobody else's."""
        who = (want.email or "").strip().lower() or f"{row.stream}/{row.id}"
        if self._strangers.setdefault(str(anonymous), who) != who:
            raise Wrong(f"{want.name} {row.id} goes under somebody else's anonymousId")

    def _changed(self, message: dict[str, Any], member: Member) -> None:
        properties = message["properties"]
        of = str(properties.get("request_id") or properties.get("post_id") or "")
        self.changes[member.name, message["event"], of].append(message)

    def went_back(self, before: Snapshot, now: Snapshot) -> None:
        """The database has gone back: what it does not know as sent may come again, by the same ids."""
        self._excused |= {key for key in self.found if not self._is_confirmed(key, now)}
        self._bodies = {name: body for name, body in self._bodies.items() if name in now.outbox}
        self._reported_before += sum(number for run, number in self._reported.items() if run > now.last_run)
        self._reported = {run: number for run, number in self._reported.items() if run <= now.last_run}
        self.renumbered |= {
            key[2]
            for key, parent in before.parents.items()
            if key not in now.parents or now.parents[key].changes < parent.changes
        }

    def _is_confirmed(self, key: Key, now: Snapshot) -> bool:
        name, stream, row_id = key
        row = self.row(stream, row_id)
        member = next(member for member in self._members.values() if member.name == name)
        return key in now.new_rows and row is not None and not is_among(now.outbox, row, member)

    # --- what must be at any time ---

    def books(self) -> None:
        """No request without its charge; no row recorded as sent that is neither there nor on its way."""
        universe = self._universe
        seen = sum(request.api == "beamer" for request in universe.box.requests)
        paid = charged(universe) + universe.storage.uncharged
        if seen > paid:
            raise Wrong(f"Beamer saw {seen} requests, and {paid} were charged")

    def verdicts(self) -> None:
        """Each row's verdict in the database is what the settings say."""
        universe = self._universe
        waits = waiting(universe) | universe.dropped
        members = {member.name: member for member in universe.plan.members}
        with closing(universe.disk.opened()) as db:
            rows = db.execute(
                "SELECT s.connection, s.name, r.id, r.verdict FROM beamer_segment_row r "
                "JOIN beamer_segment_stream s USING (scope)"
            ).fetchall()
        for name, stream, row_id, verdict in rows:
            row, member = self.row(stream, row_id), members[name]
            if row is None:
                raise Wrong(f"{stream} {row_id} is in the store, and Beamer never showed it")
            said = VERDICTS[verdict]
            if said == "quarantined":
                continue
            decided = oracle.fate(row, member, universe.starts[name], universe.now())
            wanted = decided.what if decided.what != "held" else decided.why
            if said != wanted:
                raise Wrong(f"{name}: {stream} {row_id} is recorded as {said}, and is {wanted}")
            there = self.found.get((name, stream, row_id)) or is_among(waits, row, member)
            if said == "sent" and not there:
                raise Wrong(f"{name}: {stream} {row_id} is recorded as sent, and is lost")

    def end(self) -> None:
        """What holds of a whole life."""
        universe = self._universe
        if universe.box.world.views_counted:
            raise Wrong(f"{universe.box.world.views_counted} views were counted")
        doubles, reported = (
            len(self._twice - self._excused),
            self._reported_before + sum(self._reported.values()),
        )
        if doubles > reported:
            raise Wrong(f"{doubles} doubles, {reported} reported as possible")
        for seen in universe.box.requests:
            if seen.api == "beamer" and (seen.method != "GET" or not _is_list(seen.path)):
                raise Wrong(f"{seen.method} {seen.path}: only lists are read")
        judge_chains(universe, self)

    def _note_reports(self) -> None:
        """Note what may be deleted for its age: what runs wrote down, and dead letters."""
        with closing(self._universe.disk.opened()) as db:
            runs = db.execute("SELECT id, summary FROM beamer_segment_run WHERE summary IS NOT NULL")
            self._reported |= {
                number: json.loads(summary).get("possible_doubles", 0) for number, summary in runs
            }
            if self._universe.drawn.constants.retention < Constants().retention:
                dead = db.execute("SELECT message_id FROM beamer_segment_outbox WHERE state = 'dead'")
                self._universe.dropped |= {message_id for (message_id,) in dead}


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(json.dumps(value)) > MOST_WORDS / 2


def _is_list(path: str) -> bool:
    parts = path.strip("/").split("/")
    lists = ("posts", "requests", "nps")
    if len(parts) == 1 or parts[1:] == ["count"]:
        return parts[0] in lists
    return (
        len(parts) in (3, 4)
        and parts[2] in ("comments", "reactions", "votes")
        and parts[3:] in ([], ["count"])
    )

"""States that lives must come to now and then, or they show less than they seem to; counted in the census.

All of them are seen from outside: in the database before and after a run, the run's report and log events,
and the requests that arrived meanwhile.
"""

import logging
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

from tests.sandbox import RequestSeen
from tests.simulation.network import list_path
from tests.simulation.process import Ending, Process
from tests.simulation.snapshot import Key, List, Snapshot, taken
from tests.simulation.universe import Universe

STATES = (
    # readings
    "a reading is cut short by a crash",
    "a reading goes on after a crash",
    "a reading is resumed after a crash in its last page",
    "a reading takes three runs",
    "a budget is used up in the middle of a reading",
    "--max-requests ends a run in the middle of a reading",
    "a list is left at the bound of a run",
    "a hole is left in a list",
    "a hole is closed",
    "a hole is left in a list of parents",
    "a list rests after failures",
    "a list that rested is read",
    "a whole list is known to be without order",
    "a list is known to begin with the oldest",
    "a short page does not end its list",
    "pages hold less than the reference says",
    "pages are counted from 1",
    # counters and parents
    "a list shows rows before its counter",
    "a counter announces rows that its list does not show",
    "announced rows have come",
    "a counter falls",
    "counters are untrusted",
    "counters are trusted again",
    "a parent is gone",
    "a parent that was gone is back",
    "a block of parents rests",
    "a status is doubted",
    "a doubted status is sent",
    "an audit finds missing rows",
    # rows
    "a row comes into quarantine",
    "a row in quarantine becomes good",
    "a parent in quarantine has children that are sent",
    # webhooks
    "a hint waits",
    "a hint is read",
    "a hint for a row that is gone, or below one",
    "a hint outlives a crash",
    # delivery
    "a message is in flight at a crash",
    "a message that was in flight at a crash is confirmed",
    "a batch is sent in the middle of reading",
    "a batch is split while another run waits",
    "a message is refused",
    "a refused message is tried again",
    "a refused message is taken after all",
    "everything is refused",
    "Segment is away for three runs",
    "a possible double is reported",
    "a message waits for a former destination",
    "too much waits, and nothing is read",
    "a dead letter is deleted for its age",
    "Beamer Sync Completed is sent",
    "a change of totals is sent",
    # runs
    "a lease is lost between record and request",
    "a lease is lost between Segment's answer and its confirmation",
    "a run is fenced when it wakes",
    "a run finds another at work",
    "a first run dies before it has read anything",
    "a run dies between record and request",
    "a run dies between Segment's answer and its confirmation",
    "Beamer is away for a whole run",
    "429 closes the account",
    "a closed account opens again",
    "requests are saved for a check",
    "a stream is forbidden",
    "a refusal is doubted",
    "the database fails in a run",
    "a backup is put back",
    "an empty database takes the place of a lost one",
    "used requests are entered",
    "a run ends, as its database may only be read",
)
# What only a file comes to, or only a server.
ON_SQLITE = (
    "a power cut takes a transaction under way",
    "a power cut comes behind a transaction under way",
    "a power cut ends two runs",
    "a disk is full in the middle of a run",
    "a run ends, as its disk is full",
)
ON_SERVER = (
    "sessions are ended in a transaction",
    "sessions are ended outside a transaction",
    "a failover takes transactions",
    "a run notices that its database has gone back",
)
# Moments of a run: a request is taken out of the budget; Segment has answered, and nothing is confirmed yet.
RECORDED = "before Beamer's request"
ANSWERED = ("between Segment's request and answer", "after Segment's answer")
# So many failures in a row, and a list is left alone for a while.
RESTS = 2
_log: list[tuple[str, dict[str, Any]]] = []


def listen() -> None:
    """Take the log events of all runs in this process, in the place of printing them."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), processors=[_heard]
    )


def _heard(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    _log.append((str(event.pop("event")), dict(event)))
    raise structlog.DropEvent


@dataclass(slots=True)
class Look:
    """A run that has ended, seen from outside; `died`: the one before it on this connection did."""

    universe: Universe
    process: Process
    ending: Ending
    before: Snapshot
    after: Snapshot
    requests: list[RequestSeen]
    log: list[tuple[str, dict[str, Any]]]
    died: bool

    @property
    def name(self) -> str:
        return self.process.member.name

    def said(self, event: str) -> bool:
        return any(name == event for name, _ in self.log)

    def changed(self) -> Iterator[tuple[Key, List | None, List]]:
        """Yield the connection's lists that are not as before."""
        for key, now in self.after.lists.items():
            before = self.before.lists.get(key)
            if before != now and key[0] == self.name:
                yield key, before, now


class Sometimes:
    """Counts the states of one life, run by run."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self._before = Snapshot()
        self._asked = self._landed = 0
        self._died: dict[str, bool] = {}
        self._cut: dict[Key, int] = {}
        self._away = 0
        self._in_flight: set[str] = set()
        self._refused: set[str] = set()
        _log.clear()

    def look(self, process: Process, ending: Ending) -> Snapshot:
        """Count what a run that has ended came to; return what the database holds."""
        universe, before = self._universe, self._before
        # Two runs may be at work at once: what the other one has judged belongs to the next look.
        after = taken(universe.disk, before.last_run - 2)
        requests = universe.box.requests[self._asked :]
        name = process.member.name
        look = Look(universe, process, ending, before, after, requests, _log[:], self._died.get(name, False))
        states = universe.census.states
        for state in {*_readings(look), *_counters(look), *_rows(look), *_runs(look), *self._over_runs(look)}:
            states[state] += 1
        self._asked = len(universe.box.requests)
        self._before = after
        self._died[name] = ending.exit is None
        _log.clear()
        return after

    def restart(self, snapshot: Snapshot) -> None:
        """The database has gone back to what it had been: nothing in it comes from what was before."""
        self._before = snapshot
        for seen in (self._died, self._cut, self._in_flight, self._refused):
            seen.clear()

    def _over_runs(self, look: Look) -> Iterator[str]:
        """States that show over several runs."""
        after, outbox = look.after, look.after.outbox
        for key, _, now in look.changed():
            self._cut[key] = self._cut.get(key, 0) + 1 if now.cursor and not now.has_hole else 0
            if self._cut[key] >= 3:
                yield "a reading takes three runs"
        landed = self._universe.box.segment.landed
        new = {each.message["messageId"]: each.message["event"] for each in landed[self._landed :]}
        self._landed = len(landed)
        if "Beamer Sync Completed" in new.values():
            yield "Beamer Sync Completed is sent"
        if "Post Metrics Updated" in new.values():
            yield "a change of totals is sent"
        if any(name not in outbox for name in self._in_flight):
            yield "a message that was in flight at a crash is confirmed"
        self._in_flight &= outbox.keys()
        flight = {name for name, each in outbox.items() if each.state == "flight"}
        if look.ending.exit is None and flight:
            self._in_flight |= flight
            yield "a message is in flight at a crash"
        if any(outbox[name].state != "dead" for name in self._refused & outbox.keys()):
            yield "a refused message is tried again"
        if gone := self._refused - outbox.keys():
            arrived = gone & {each.message["messageId"] for each in landed}
            if arrived:
                yield "a refused message is taken after all"
            if arrived != gone:
                yield "a dead letter is deleted for its age"
        self._refused &= outbox.keys()
        self._refused |= {name for name, each in outbox.items() if each.state == "dead"}
        said = look.ending.said
        self._away = self._away + 1 if look.said("delivery_stopped") and after.outbox else 0
        if self._away >= 3 and "Segment" in said:
            yield "Segment is away for three runs"


def _readings(look: Look) -> Iterator[str]:
    died, said = look.ending.exit is None, look.ending.said
    for key, before, now in look.changed():
        begun = before is not None and before.cursor is not None and not before.has_hole
        open_ = now.cursor is not None and not now.has_hole
        if died and open_:
            yield "a reading is cut short by a crash"
        if look.died and begun:
            yield "a reading goes on after a crash"
            path = list_path(key[1], key[2])
            if now.cursor is None and sum(seen.path == path for seen in look.requests) == 1:
                yield "a reading is resumed after a crash in its last page"
        if open_ and said in ("The monthly limit is used up.", "No request is available now."):
            yield "a budget is used up in the middle of a reading"
        if open_ and said.startswith("--max-requests"):
            yield "--max-requests ends a run in the middle of a reading"
        if now.has_hole:
            yield "a hole is left in a list"
            if not key[2] and key[1] != "nps":
                yield "a hole is left in a list of parents"
        if before is not None and before.has_hole and now.cursor is None:
            yield "a hole is closed"
        if now.failures >= RESTS:
            yield "a list rests after failures"
        if before is not None and before.failures >= RESTS and not now.failures:
            yield "a list that rested is read"
    if any(name == "stream_trouble" and "did not end after" in what["error"] for name, what in look.log):
        yield "a list is left at the bound of a run"
    for (connection, _), stream in look.after.streams.items():
        if connection != look.name:
            continue
        if stream.order == "none":
            yield "a whole list is known to be without order"
        if stream.order == "oldest":
            yield "a list is known to begin with the oldest"
        if stream.short_ends is not None and not stream.short_ends:
            yield "a short page does not end its list"
        if stream.page_rows is not None:
            yield "pages hold less than the reference says"
        if stream.trouble_code == "doubted":
            yield "a refusal is doubted"
        elif stream.trouble_code:
            yield "a stream is forbidden"
    if look.after.first_page == 1:
        yield "pages are counted from 1"


def _counters(look: Look) -> Iterator[str]:
    for _, before, now in look.changed():
        if now.surplus > 0:
            yield "a list shows rows before its counter"
        if now.short_since is not None:
            yield "a counter announces rows that its list does not show"
        elif before is not None and before.short_since is not None and before.surplus < now.surplus:
            yield "announced rows have come"
        if now.fell:
            yield "a counter falls"
    for name, stream in look.after.streams.items():
        before_it = look.before.streams.get(name)
        if stream.distrusted:
            yield "counters are untrusted"
        elif before_it is not None and before_it.distrusted:
            yield "counters are trusted again"
    for key, parent in look.after.parents.items():
        was = look.before.parents.get(key)
        if was == parent:
            continue
        if parent.gone:
            yield "a parent is gone"
        elif was is not None and was.gone:
            yield "a parent that was gone is back"
        if parent.failures >= RESTS:
            yield "a block of parents rests"
        if parent.other_shown:
            yield "a status is doubted"
        if was is not None and was.other_shown and parent.changes > was.changes:
            yield "a doubted status is sent"
    if look.said("audit_found_missing"):
        yield "an audit finds missing rows"


def _rows(look: Look) -> Iterator[str]:
    before, after = look.before, look.after
    if after.quarantine - before.quarantine:
        yield "a row comes into quarantine"
    new = after.new_rows.keys() - before.new_rows.keys()
    if not before.quarantine.isdisjoint(new):
        yield "a row in quarantine becomes good"
    for name, stream, row_id in new:
        row = look.universe.box.world._by_id[stream].get(row_id)
        if row and row.parent and (name, row.parent.stream, row.parent.id) in after.quarantine:
            yield "a parent in quarantine has children that are sent"
    for key, waiting in after.hints.items():
        if waiting:
            yield "a hint waits"
            if look.ending.exit is None:
                yield "a hint outlives a crash"
        elif before.hints.get(key):
            yield "a hint is read"
    if any(_is_gone(look.universe, *hinted) for hinted in look.universe.hinted):
        yield "a hint for a row that is gone, or below one"
    look.universe.hinted.clear()


def _runs(look: Look) -> Iterator[str]:
    ending, process, said = look.ending, look.process, look.ending.said
    before, after = look.before, look.after
    report = ending.report
    if "took over this run's lease" in said:
        yield "a run is fenced when it wakes"
        if process.suspended == RECORDED:
            yield "a lease is lost between record and request"
        if process.suspended in ANSWERED:
            yield "a lease is lost between Segment's answer and its confirmation"
    elif ending.exit == 75:
        yield "a run finds another at work"
    if ending.exit is None and not after.lists:
        yield "a first run dies before it has read anything"
    if process.died_at == RECORDED:
        yield "a run dies between record and request"
    if process.died_at in ANSWERED:
        yield "a run dies between Segment's answer and its confirmation"
    yield from _delivery(look)
    beamers = [seen.status for seen in look.requests if seen.api == "beamer"]
    if ending.exit == 69 and beamers and all(status == 0 or status >= 500 for status in beamers):
        yield "Beamer is away for a whole run"
    if after.closed:
        yield "429 closes the account"
    elif before.closed:
        yield "a closed account opens again"
    if report and report.saving:
        yield "requests are saved for a check"
    if ending.exit == 70 or "database" in said.lower():
        yield "the database fails in a run"


def _delivery(look: Look) -> Iterator[str]:
    report = look.ending.report
    refused = look.said("message_refused")
    if refused:
        yield "a message is refused"
        if look.process.partner and not look.process.partner.ended:
            yield "a batch is split while another run waits"
    apis = [seen.api for seen in look.requests]
    if (
        "segment" in apis
        and "beamer" in apis[apis.index("segment") :]
        and "beamer" in apis[: apis.index("segment")]
    ):
        yield "a batch is sent in the middle of reading"
    if any(
        "refuses every message" in what.get("error", "")
        for name, what in look.log
        if name == "delivery_stopped"
    ):
        yield "everything is refused"
    if report and report.possible_doubles:
        yield "a possible double is reported"
    destination = look.universe.destinations[look.name]
    if any(
        each.connection == look.name and f"-{destination}-" not in message_id
        for message_id, each in look.after.outbox.items()
    ):
        yield "a message waits for a former destination"
    if look.ending.said.startswith("Too much waits"):
        yield "too much waits, and nothing is read"


def _is_gone(universe: Universe, stream: str, row_id: str) -> bool:
    row = universe.box.world._by_id.get(stream, {}).get(row_id)
    return row is not None and row.deleted_s is not None

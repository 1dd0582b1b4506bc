"""Decide what a page of history changes, from plain data, before anything is written."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from connector.beamer.pagination import Cursor, Habits, Order, PageRows
from connector.beamer.streams import Stream, children
from connector.domain.period import SECOND, day_of, within
from connector.domain.state import NewRows, ParentState, RowVerdict, StreamState, Verdict
from connector.state.backfills import NO_PARENT, BackfillEffects, Range, Reading, Stage
from connector.sync.fetch.decisions import first_page_of, tally
from connector.sync.lists import counters, passes, stored_pass
from connector.sync.lists.passes import ListPass
from connector.sync.planning.probes import Job
from connector.sync.policy import Policy
from connector.sync.rows.pages import PageVerdicts, enqueue

# A list is split where at least this many pages remain: the two parts take a page or two more.
LEAST_PAGES_TO_SPLIT = 130
# The date of parents without one.
NO_DATE = datetime.min.replace(tzinfo=UTC)

# The dates of parents, by stream and id.
ParentDates = Mapping[str, Mapping[str, datetime]]


@dataclass(frozen=True, slots=True)
class HistoryContext:
    """What a decision depends on.

    `start`: the syncs' start date. `now` is Beamer's time, `latest` the later one of that and this
    machine's. `idle`: more requests could be in flight. `moved`: see `moved_parents`.
    """

    catalogue: Mapping[str, Stream]
    policy: Policy
    wanted: Range
    start: datetime
    now: datetime
    latest: datetime
    idle: bool = False
    moved: ParentDates = field(default_factory=dict)


# --- which lists are read ---


def child_streams(catalogue: Mapping[str, Stream], wanted: Range, stream: str) -> tuple[Stream, ...]:
    """Return the wanted streams whose rows belong to rows of `stream`."""
    return tuple(child for child in children(catalogue, stream) if child.name in wanted.streams)


def first_readings(catalogue: Mapping[str, Stream], wanted: Range) -> list[Reading]:
    """Return the lists that a backfill begins with: those without a parent.

    Lists of parents are read from their first row: an older parent may have children in the range.
    """
    first = []
    for stream in catalogue.values():
        has_children = bool(child_streams(catalogue, wanted, stream.name))
        if stream.parent is None and (has_children or stream.name in wanted.streams):
            since = None if has_children else wanted.since
            first.append(Reading(stream.name, since=since, until=wanted.until))
    return first


def moved_parents(known: Mapping[str, Mapping[str, ParentState]], since: datetime) -> ParentDates:
    """Return the parents that got a date of `since` or later after a sync had seen them.

    A newer date moves a post to the top. It leaves the part of the list that a backfill reads, or moves
    from the unread part into the part already read; its child lists may hold rows of the range.
    """
    return {
        stream: {
            parent.id: parent.date
            for parent in parents.values()
            if parent.date >= since and not parent.gone
            if parent.known_at and parent.known_at < parent.date
        }
        for stream, parents in known.items()
    }


def moved_part(stream: str, dates: Collection[datetime]) -> Reading:
    """Return the part of a list of parents that holds those with these dates, at least one."""
    until = max(dates) + SECOND
    return Reading(stream, NO_PARENT, _part(until), min(dates), until)


def _part(until: datetime) -> int:
    """Return the number of the part that ends at `until`."""
    return int(until.timestamp() * 1000)


def child_reading(child: Stream, parent: str, date: datetime, counter: str, wanted: Range) -> Reading:
    """Return the reading of a child list: of the whole list, if all its rows are wanted.

    Rows may be older than their parent's date, which changes when the parent is moved to the top.
    """
    whole = date >= wanted.since and wanted.until is None
    since, until = (None, None) if whole else (wanted.since, wanted.until)
    return Reading(child.name, parent, since=since, until=until, expected=expected_rows(counter))


def expected_rows(counter: str) -> int | None:
    """Return how many rows a list has by its parent's counter; None if it cannot be read."""
    return None if counters.UNKNOWN in counter or not counter else counters.total(counter)


def begin_pass(reading: Reading, *, has_children: bool) -> ListPass:
    """Start the pass of a list: a whole child list by page number, others by date.

    Nothing counts the rows of a list of parents while it is read, and a missed page would lose all child
    lists of its rows. So it is `doubtful`, as is a list without a parent in its second reading.
    """
    counter = counters.UNKNOWN if reading.expected is None else str(reading.expected)
    whole = counter if reading.has_parent and reading.whole else None
    doubtful = not reading.has_parent and (has_children or reading.doubted_at is not None)
    return passes.begin_history(reading.since, reading.until, whole, doubtful=doubtful)


# --- what a page changes ---


def own_ids(page: PageVerdicts, reading: Reading, list_pass: ListPass) -> set[str]:
    """Return the rows of a page that belong to the reading, without those of the page before."""
    before = list_pass.last_ids
    return {
        name
        for name in page.seen.ids
        if name not in before
        and (name not in page.rows or within(page.rows[name][0].date, reading.since, reading.until))
    }


def restricted(
    page: PageVerdicts, reading: Reading, list_pass: ListPass, stream: Stream, wanted: Range
) -> PageVerdicts:
    """Return the page with verdicts only on rows that this reading sends."""
    if stream.name not in wanted.streams:
        return replace(page, row_verdicts=(), rejected=())
    ids = own_ids(page, reading, list_pass)
    verdicts: Sequence[RowVerdict] = [
        row for row in page.row_verdicts if row.id in ids and wanted.holds(page.rows[row.id][0].date)
    ]
    return replace(page, row_verdicts=verdicts)


def decide(
    context: HistoryContext,
    job: Job,
    reading: Reading,
    page: PageVerdicts,
    state: StreamState,
    new: NewRows,
    before: Mapping[str, Verdict],
) -> tuple[BackfillEffects, ListPass]:
    """Decide a page; return its effects, and the pass after it.

    `before`: the earlier verdicts of rows that are to be sent now.
    """
    effects, list_pass, stream = BackfillEffects(), job.probe.required_pass, job.probe.stream
    effects.revived = {name for name, verdict in before.items() if verdict.revivable}
    sent = {*new.ids, *effects.revived}
    if context.wanted.resend and not reading.doubted_at:
        # The second reading of a list does not resend what the first one has resent.
        sent |= {name for name, verdict in before.items() if verdict is not Verdict.MOVED}
    enqueue(effects, page.events(sent), stream, reading.parent, context.policy, context.latest, reading.title)
    rows = tally(page, new, effects)
    rows.subtract(before[name].label for name in effects.revived)
    effects.tally = Counter({what: count for what, count in rows.items() if count})
    dates = [page.rows[name][0].date for name in new.ids]
    if stream.parent:
        # The syncs' counters include these rows; that they are stored already must not look like a loss.
        effects.ahead = sum(date >= context.start for date in dates)
    elif not children(context.catalogue, stream.name):
        effects.days = Counter(map(day_of, dates))
    # Resent rows do not show that there is more to find.
    seen = passes.PassPage(page.seen, len(new.ids | effects.revived), quarantined=new.quarantined)
    step = passes.after_page(list_pass, seen, job.habits, stream.cap)
    effects.first_page = first_page_of(step.habits, job.habits)
    if (str(step.habits.order), step.habits.short_ends) != (state.list_order, state.short_ends):
        effects.habits = str(step.habits.order), step.habits.short_ends
    effects.new_readings = _child_readings(context, stream, reading, page)
    restarted = step.list_pass.progress.restarts != list_pass.progress.restarts
    count = 0 if restarted else reading.seen + len(own_ids(page, reading, list_pass))
    reading = replace(reading, seen=count)
    if step.done:
        effects.reading = ended(reading, context.now, trusted=not state.distrusted)
        return effects, step.list_pass
    after = step.list_pass
    if context.idle and (middle := _middle(reading, after, page.seen, step.habits, stream.cap)):
        effects.new_readings.append(_older_part(reading, middle))
        reading = replace(reading, since=middle)
        cursor = replace(after.part.cursor, since=Cursor.around(middle).since)
        after = replace(after, part=replace(after.part, cursor=cursor, low=middle))
    effects.reading = replace(reading, cursor=stored_pass.dump(after))
    return effects, after


def _child_readings(
    context: HistoryContext, stream: Stream, reading: Reading, page: PageVerdicts
) -> list[Reading]:
    """Return the child lists that may hold rows of the range; the database decides which are new.

    A second part of a list of parents is read only for the `moved` ones.
    """
    wanted, moved = context.wanted, context.moved.get(stream.name, {})
    streams = child_streams(context.catalogue, wanted, stream.name)
    new: list[Reading] = []
    for name, (date, raw) in page.parents.items() if streams else ():
        if date is not None and not within(date, reading.since, reading.until):
            continue
        if reading.part and name not in moved:
            continue
        title = page.rows[name][0].fields.get("title") if name in page.rows else None
        for child in streams:
            counter = counters.read(raw, child.counters)
            if not child.counters or counters.moved(counter, None):
                # Of a parent without a date, only the range is requested.
                child_list = child_reading(child, name, date or NO_DATE, counter, wanted)
                new.append(replace(child_list, date=date, title=title))
    return new


def _middle(
    reading: Reading, list_pass: ListPass, page: PageRows, habits: Habits, cap: int
) -> datetime | None:
    """Return the date at which to split a list in two, if that is worth its cost.

    How many pages remain is estimated from the time that the last page spans.
    """
    by_date = habits.order is Order.NEWEST and not list_pass.part.cursor.page
    if reading.since is None or not page.dates or not by_date:
        return None
    oldest, span = page.dates[-1], page.dates[0] - page.dates[-1]
    # Only few rows are older than their parent's date: those of a parent that was moved to the top.
    remaining = oldest - max(reading.since, reading.date or reading.since)
    if not span or remaining / span < LEAST_PAGES_TO_SPLIT or page.count < cap:
        return None
    return (oldest - remaining / 2).replace(microsecond=0)


def _older_part(reading: Reading, until: datetime) -> Reading:
    date, title = reading.date, reading.title
    return Reading(reading.stream, reading.parent, _part(until), reading.since, until, date, title)


# --- what remains of a list at its end ---


def ended(reading: Reading, now: datetime, *, trusted: bool) -> Reading:
    """Return a list after its last page: done, or to be compared with what Beamer counts."""
    after = replace(reading, stage=Stage.ENDED, cursor=None, found=reading.seen, seen=0)
    if reading.has_parent and not lacks_rows(after, trusted=trusted):
        return replace(after, stage=Stage.DONE)
    # A difference is accepted only if the number stays the same.
    same = reading.doubted_at and reading.found in (None, after.found)
    return replace(after, doubted_at=reading.doubted_at if same else now)


def lacks_rows(reading: Reading, *, trusted: bool) -> bool:
    """Return whether a list that was read to its end showed fewer rows than expected.

    A parent's counter gives the number of rows of the whole list. Of a part, or if the counter is not
    `trusted`, it only shows that there are rows; a part that was empty twice is empty.
    """
    if reading.found is None:
        return True
    if reading.expected is None:
        return False
    if not reading.has_parent or (reading.whole and trusted):
        return reading.found < reading.expected
    return not reading.found and reading.expected > 0 and (reading.whole or reading.doubted_at is None)


def read_again(reading: Reading) -> Reading:
    """Return a list that is read a second time, from its first row on."""
    return replace(reading, stage=Stage.OPEN, cursor=None, seen=0)

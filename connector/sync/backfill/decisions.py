"""What a page of history changes: decided from plain data, before anything is written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from connector.beamer.pagination import Cursor, Habits, Order, PageRows
from connector.beamer.streams import Stream, children
from connector.clock import SECOND, within
from connector.domain.changes import RowVerdict
from connector.domain.period import day_of
from connector.domain.state import ParentState, StreamState
from connector.domain.verdicts import Verdict
from connector.state.backfills import HistoryEffects, Range, Reading
from connector.sync.fetch.decisions import first_page_of, tally
from connector.sync.lists import counters, passes
from connector.sync.lists.passes import ListPass, PassStep
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.policy import Policy
from connector.sync.rows.pages import PageVerdicts, enqueue

# A list is parted where so many pages are still expected: its parts cost a page or two more together.
LEAST_PAGES_TO_SPLIT = 130


BEFORE = datetime.min.replace(tzinfo=UTC)

# Parents that were given another date, by stream and id, with the date that they have now.
Redated = Mapping[str, Mapping[str, datetime]]


@dataclass(frozen=True, slots=True)
class HistoryContext:
    """What deciding needs to know.

    `start`: from when on the syncs send; `now` is Beamer's, `latest` that or this machine's, whichever is
    later; `idle`: more requests could be on their way.
    `redated`: see there.
    """

    catalogue: Mapping[str, Stream]
    policy: Policy
    wanted: Range
    start: datetime
    now: datetime
    latest: datetime
    idle: bool = False
    redated: Redated = field(default_factory=dict)


def read_for(catalogue: Mapping[str, Stream], names: Sequence[str], stream: Stream) -> tuple[Stream, ...]:
    """The child lists of a stream's rows that are wanted."""
    return tuple(child for child in children(catalogue, stream.name) if child.name in names)


def redated(parents: Mapping[str, Mapping[str, ParentState]], wanted: Range) -> Redated:
    """The parents behind the range's end that were seen before the date that they have now.

    A post is put on top again by a newer date; what is below it may lie in the range.
    """
    return moved_to(parents, wanted.until) if wanted.until else {}


def moved_to(parents: Mapping[str, Mapping[str, ParentState]], since: datetime) -> Redated:
    """The parents dated `since` or later that were seen before the date that they have now."""
    return {
        stream: {
            name: each.date
            for name, each in known.items()
            if each.date >= since and not each.gone
            if each.known_at and each.known_at < each.date
        }
        for stream, known in parents.items()
    }


def passed_by(catalogue: Mapping[str, Stream], moved: Redated, resumed: Sequence[Reading]) -> Redated:
    """Of those that have moved since a backfill began, the ones that it does not follow up already.

    Each may have gone from where the list of parents was still to be read to where it had been. Of what a
    run cut short had begun to follow up, some is among the readings that it was `resumed` with.
    """
    followed = [each.until - SECOND for each in resumed if _follows_up(each) and each.until]
    above = ((moved.get(catalogue[each.stream].parent or "", {}), each.parent) for each in resumed)
    followed += [names[parent] for names, parent in above if parent in names]
    return later(moved, max(followed, default=None))


def later(moved: Redated, last: datetime | None) -> Redated:
    """The ones with a later date; streams without any are left out."""
    found = {
        stream: {name: date for name, date in names.items() if last is None or date > last}
        for stream, names in moved.items()
    }
    return {stream: names for stream, names in found.items() if names}


def follow_ups(catalogue: Mapping[str, Stream], wanted: Range, moved: Redated) -> list[Reading]:
    """The parts of the lists of parents where those stand that have moved."""
    return [
        _dated(stream, NO_PARENT, min(names.values()), max(names.values()) + SECOND, doubtful=True)
        for stream, names in moved.items()
        if read_for(catalogue, wanted.streams, catalogue[stream])
    ]


def _follows_up(of: Reading) -> bool:
    """Else a list of parents is read from its first one on, for the sake of what is below them."""
    return of.parent == NO_PARENT and of.since is not None


def first_readings(catalogue: Mapping[str, Stream], wanted: Range, moved: Redated) -> list[Reading]:
    """The lists that a backfill begins with: those without parents, and those of parents.

    Parents older than the range may have young children, and those that have `moved` behind it old ones.
    """
    first = []
    for stream in catalogue.values():
        if stream.parent is not None:
            continue
        child_streams = read_for(catalogue, wanted.streams, stream)
        if stream.name in wanted.streams or child_streams:
            since = None if child_streams else wanted.since
            dates = moved.get(stream.name, {}).values() if child_streams else ()
            until = max(dates) + SECOND if dates else wanted.until
            first.append(_dated(stream.name, NO_PARENT, since, until, doubtful=bool(child_streams)))
    return first


def _dated(
    stream: str, parent: str, since: datetime | None, until: datetime | None, *, doubtful: bool = False
) -> Reading:
    # With a page of parents all that is below them would be missed, and no counter tells of them.
    pass_ = ListPass(Cursor.around(since, until), since, doubtful=doubtful)
    return Reading(0, stream, parent, passes.dump(pass_), since, until)


def begun_again(reading: Reading) -> ListPass:
    """A list from its beginning, of which it is not known any more how far it was read."""
    return ListPass(Cursor.around(reading.since, reading.until), reading.since, doubtful=True)


def child_reading(child: Stream, parent: str, date: datetime, counter: str, wanted: Range) -> Reading:
    """A child list: whole, by page number and checked by its counter, where all of it is wanted.

    Its rows may be older than its parent's date, which is another when the parent is put on top again.
    """
    if date >= wanted.since and wanted.until is None:
        reading = Reading(0, child.name, parent, passes.dump(_whole(counter)))
    else:
        reading = _dated(child.name, parent, wanted.since, wanted.until)
    known = counter and counters.UNKNOWN not in counter
    return replace(reading, expected=counters.total(counter) if known else None)


def _whole(counter: str) -> ListPass:
    return ListPass(Cursor(), None, began=counter, first=True, by_date=False)


def anew(of: Reading) -> str:
    """Return the cursor of a list that is read once more from its beginning, by what is expected now."""
    if of.of_child and of.since is None and of.until is None:
        return passes.dump(_whole(counters.UNKNOWN if of.expected is None else str(of.expected)))
    return _dated(of.stream, of.parent, of.since, of.until, doubtful=not of.of_child).cursor


def lacks(of: Reading, *, trusted: bool) -> bool:
    """Whether a child list that was read to its end showed fewer rows than its parent's counter says.

    Of a part of a list no counter tells how many rows there are: only that it may not be empty. A counter
    that is not `trusted` says no more than that, either.
    """
    if of.found is None or of.expected is None:
        return of.found is None and of.doubted_at is not None
    whole = of.since is None and of.until is None
    if whole and trusted:
        return of.found < of.expected
    # Where a part was empty twice, it is.
    return not of.found and of.expected > 0 and (whole or of.doubted_at is None)


def compared_by_count(context: "HistoryContext", of: Reading) -> bool:
    """Whether Beamer's count tells how many rows a list without parent should have shown.

    What follows up parents that have moved reads a part of the list once more.
    """
    child_streams = read_for(context.catalogue, context.wanted.streams, context.catalogue[of.stream])
    return not of.of_child and not (child_streams and of.since is not None)


def own_rows(page: PageVerdicts, of: Reading, pass_: ListPass) -> int:
    """Return how many rows of a page are the list's own: not of another part, nor of the page before."""
    before = {*pass_.cursor.last, *pass_.read_before}
    return sum(
        name not in page.rows or within(page.rows[name][0].date, of.since, of.until)
        for name in page.seen.ids
        if name not in before
    )


def verdicts_within(
    page: PageVerdicts, of: Reading, pass_: ListPass, stream: Stream, wanted: Range
) -> PageVerdicts:
    """The page without what is not this reading's: rows of another part, or of the page before."""
    mine: Sequence[RowVerdict] = ()
    if stream.name in wanted.streams:
        mine = [
            row
            for row in page.row_verdicts
            if row.id not in pass_.cursor.last
            and row.id not in pass_.read_before
            and within(page.rows[row.id][0].date, of.since, of.until)
            and wanted.holds(page.rows[row.id][0].date)
        ]
    return replace(page, row_verdicts=mine, rejected=page.rejected if stream.name in wanted.streams else ())


def decide(
    context: HistoryContext,
    probe: Probe,
    of: Reading,
    page: PageVerdicts,
    state: StreamState,
    fresh: set[str],
    before: Mapping[str, Verdict],
    quarantined: int,
) -> tuple[HistoryEffects, PassStep]:
    """Decide a page of one list; `before` are the verdicts of rows judged earlier that are to be sent."""
    effects = HistoryEffects()
    new = fresh | {name for name, verdict in before.items() if verdict.revivable}
    before_here = {name for name, verdict in before.items() if verdict is not Verdict.MOVED}
    # A list that is read once more was sent once more as far as it was seen.
    sent = new | before_here if context.wanted.resend and not of.doubted_at else new
    enqueue(effects, page.events(sent), probe.stream, probe.parent, context.policy, context.latest, of.title)
    became = tally(page, fresh, quarantined, effects)
    # What is sent after all is not held back any more.
    became.subtract(verdict.label for verdict in before.values() if verdict.revivable)
    effects.tally = Counter({what: rows for what, rows in became.items() if rows})
    dates = [page.rows[name][0].date for name in fresh]
    if probe.stream.parent is None and not children(context.catalogue, probe.stream.name):
        effects.days = Counter(map(day_of, dates))
    # The syncs' counters count these rows; that they are held already must not look like a loss.
    effects.ahead = sum(date >= context.start for date in dates) if probe.stream.parent else 0
    # What is sent once more was found before: it is no sign that there is more to find.
    seen = passes.PassPage(page.seen, len(new), quarantined=quarantined)
    step = passes.after_page(probe.required_pass, seen, probe.habits, probe.stream.cap)
    _learn(effects, step.habits, probe.habits, state)
    effects.opened = _child_readings(context, probe, of, page)
    # It may be read more than once: its rows change places. So may a parent be shown whose date is unknown.
    shown_again = [
        each.parent
        for each in effects.opened
        if step.habits.order is Order.NONE or each.parent not in page.rows
    ]
    if shown_again and probe.stream.parent is None:
        parents = dict.fromkeys((*step.list_pass.opened, *shown_again))
        step = replace(step, list_pass=replace(step.list_pass, opened=tuple(parents)))
    again = step.list_pass.again != probe.required_pass.again
    of = replace(of, seen=0 if again else of.seen + own_rows(page, of, probe.required_pass))
    if step.done:
        effects.reading, step = _ended(context, of, step, state)
        return effects, step
    effects.reading = replace(of, cursor=passes.dump(step.list_pass))
    parts = _parted(of, step.list_pass, page.seen, step.habits, probe.stream.cap) if context.idle else None
    if parts:
        effects.reading, older = parts
        effects.opened.append(older)
        step = replace(step, list_pass=passes.restore(effects.reading.cursor))
    return effects, step


def _ended(
    context: HistoryContext, of: Reading, step: PassStep, state: StreamState
) -> tuple[Reading | None, PassStep]:
    """What remains of a list at its end: nothing, or what is still to be compared, or to be read again."""
    before, of = of.found, replace(of, found=of.seen, seen=0)
    of = replace(of, cursor=anew(of))
    if of.of_child:
        if not lacks(of, trusted=not state.distrusted):
            return None, step
        # Only what stays the same is believed in the end.
        since = of.doubted_at if before in (None, of.found) else None
        return replace(of, doubted_at=since or context.now), step
    if not compared_by_count(context, of):
        return None, step
    child_streams = read_for(context.catalogue, context.wanted.streams, context.catalogue[of.stream])
    if of.doubted_at and child_streams and (of.found or 0) > (before or 0):
        # It shows parents that it had not shown before: what is below them is still to be read.
        of = replace(of, found=None, doubted_at=None)
        return of, replace(step, list_pass=passes.restore(of.cursor), done=False)
    return of, step


def _learn(effects: HistoryEffects, habits: Habits, habits_before: Habits, state: StreamState) -> None:
    effects.first_page = first_page_of(habits, habits_before)
    if (str(habits.order), habits.short_ends) != (state.list_order, state.short_ends):
        effects.habits = str(habits.order), habits.short_ends


def _child_readings(context: HistoryContext, probe: Probe, of: Reading, page: PageVerdicts) -> list[Reading]:
    """The child lists of the parents on a page that may hold something of the range."""
    wanted = context.wanted
    child_streams = read_for(context.catalogue, wanted.streams, probe.stream)
    moved = context.redated.get(probe.stream.name, {})
    opened: list[Reading] = []
    # A list that is read once more only tells whether it shows more now.
    for name, (date, raw) in page.parents.items() if child_streams and not of.doubted_at else ():
        known = name in probe.required_pass.cursor.last or name in probe.required_pass.opened
        seen = known or (date is not None and not within(date, of.since, of.until))
        late = _follows_up(of) or (wanted.until and date is not None and date >= wanted.until)
        if seen or (late and name not in moved):
            continue
        title = page.rows[name][0].fields.get("title") if name in page.rows else None
        for child in child_streams:
            counter = counters.read(raw, child.counters)
            if not child.counters or counters.moved(counter, None):
                # Of a parent without a date, what the range wants is asked for by date.
                reading = child_reading(child, name, date or BEFORE, counter, wanted)
                opened.append(replace(reading, date=date, title=title))
    return opened


def _parted(
    of: Reading, pass_: ListPass, page: PageRows, habits: Habits, cap: int
) -> tuple[Reading, Reading] | None:
    """The list in two parts, the one that is being read and an older one, where that is worth its cost.

    How much there is left, the last page tells by the time that it spans.
    """
    if of.since is None or not page.dates or habits.order is not Order.NEWEST or pass_.cursor.page:
        return None
    reached, spans = page.dates[-1], page.dates[0] - page.dates[-1]
    # Before its parent's date there is nothing, but for a few rows of one that has another date now.
    left = reached - max(of.since, of.date or of.since)
    if not spans or left / spans < LEAST_PAGES_TO_SPLIT or page.count < cap:
        return None
    middle = (reached - left / 2).replace(microsecond=0)
    older = replace(_dated(of.stream, of.parent, of.since, middle), date=of.date, title=of.title)
    younger = replace(pass_, cursor=replace(pass_.cursor, since=Cursor.around(middle).since), low=middle)
    return replace(of, since=middle, cursor=passes.dump(younger)), older

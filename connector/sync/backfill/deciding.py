"""What a page of history means: decided from data alone.

A backfill reads lists of rows: those without parents and those of posts and requests by date, and below
each parent whose counter is not empty its child lists. Each is read once, to its end.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from connector.beamer.catalogue import Stream, children
from connector.beamer.pages import Habits, Order, Place, Seen
from connector.clock import SECOND, within
from connector.state.backfills import HistoryEffects, Range, Reading
from connector.state.effects import Judged
from connector.state.period import day_of
from connector.state.progress import ParentState, StreamState
from connector.state.verdicts import Verdict
from connector.sync.judging.pages import JudgedPage
from connector.sync.judging.shaping import enqueue
from connector.sync.lists import counters, resuming, sweeps
from connector.sync.lists.sweeps import Sweep, SweepStep
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.policy import Policy
from connector.sync.reading.accepting import first_page_of, tally

# A list is parted where so many pages are still expected: its parts cost a page or two more together.
WORTH_PARTING = 130


# Parents that were given another date, by stream and id, with the date that they have now.
Redated = Mapping[str, Mapping[str, datetime]]


@dataclass(frozen=True, slots=True)
class HistoryContext:
    """What deciding needs to know.

    `start`: from when on the syncs send; `now` is Beamer's; `idle`: more requests could be on their way.
    `redated`: see there.
    """

    catalogue: Mapping[str, Stream]
    policy: Policy
    wanted: Range
    start: datetime
    now: datetime
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
        below = read_for(catalogue, wanted.streams, stream)
        if stream.name in wanted.streams or below:
            since = None if below else wanted.since
            dates = moved.get(stream.name, {}).values() if below else ()
            until = max(dates) + SECOND if dates else wanted.until
            first.append(_dated(stream.name, NO_PARENT, since, until, doubtful=bool(below)))
    return first


def _dated(
    stream: str, parent: str, since: datetime | None, until: datetime | None, *, doubtful: bool = False
) -> Reading:
    # With a page of parents all that is below them would be missed, and no counter tells of them.
    sweep = Sweep(Place.around(since, until), since, doubtful=doubtful)
    return Reading(0, stream, parent, resuming.dump(sweep), since, until)


def child_reading(child: Stream, parent: str, date: datetime, counter: str, wanted: Range) -> Reading:
    """A child list: whole, by page number and checked by its counter, where all of it is wanted.

    Its rows may be older than its parent's date, which is another when the parent is put on top again.
    """
    if date >= wanted.since and wanted.until is None:
        sweep = Sweep(Place(), None, began=counter, first=True, by_date=False)
        return Reading(0, child.name, parent, resuming.dump(sweep))
    return _dated(child.name, parent, wanted.since, wanted.until)


def judged_within(page: JudgedPage, of: Reading, sweep: Sweep, stream: Stream, wanted: Range) -> JudgedPage:
    """The page without what is not this reading's: rows of another part, or of the page before."""
    mine: Sequence[Judged] = ()
    if stream.name in wanted.streams:
        mine = [
            row
            for row in page.judged
            if row.id not in sweep.place.last
            and row.id not in sweep.read_before
            and within(page.rows[row.id][0].date, of.since, of.until)
            and wanted.holds(page.rows[row.id][0].date)
        ]
    return replace(page, judged=mine, rejected=page.rejected if stream.name in wanted.streams else ())


def decide(
    context: HistoryContext,
    probe: Probe,
    of: Reading,
    page: JudgedPage,
    state: StreamState,
    fresh: set[str],
    before: Mapping[str, Verdict],
    unusable: int,
) -> tuple[HistoryEffects, SweepStep]:
    """Decide a page of one list; `before` are the verdicts of rows judged earlier that are to be sent."""
    effects = HistoryEffects()
    new = fresh | {name for name, verdict in before.items() if verdict.revivable}
    sent = new | before.keys() if context.wanted.resend else new
    enqueue(effects, page.events(sent), probe.stream, probe.parent, context.policy, context.now, of.title)
    became = tally(page, fresh, unusable, effects)
    # What is sent after all is not held back any more.
    became.subtract(verdict.label for verdict in before.values() if verdict.revivable)
    effects.tally = Counter({what: rows for what, rows in became.items() if rows})
    dates = [page.rows[name][0].date for name in fresh]
    if probe.stream.parent is None and not children(context.catalogue, probe.stream.name):
        effects.days = Counter(map(day_of, dates))
    # The syncs' counters count these rows; that they are held already must not look like a loss.
    effects.ahead = sum(date >= context.start for date in dates) if probe.stream.parent else 0
    # What is sent once more was found before: it is no sign that there is more to find.
    seen = sweeps.SweptPage(page.seen, len(new), unusable=unusable)
    step = sweeps.after_page(probe.list_sweep, seen, probe.habits, probe.stream.cap)
    _learn(effects, step.habits, probe.habits, state)
    effects.opened = _below(context, probe, of, page)
    if step.habits.order is Order.NONE and probe.stream.parent is None:
        # It may be read more than once: its rows change places.
        parents = dict.fromkeys((*step.sweep.opened, *(each.parent for each in effects.opened)))
        step = replace(step, sweep=replace(step.sweep, opened=tuple(parents)))
    if step.done:
        return effects, step
    effects.reading = replace(of, place=resuming.dump(step.sweep))
    parts = _parted(of, step.sweep, page.seen, step.habits, probe.stream.cap) if context.idle else None
    if parts:
        effects.reading, older = parts
        effects.opened.append(older)
        step = replace(step, sweep=resuming.restore(effects.reading.place))
    return effects, step


def _learn(effects: HistoryEffects, habits: Habits, asked: Habits, state: StreamState) -> None:
    effects.first_page = first_page_of(habits, asked)
    if (str(habits.order), habits.short_ends) != (state.list_order, state.short_ends):
        effects.habits = str(habits.order), habits.short_ends


def _below(context: HistoryContext, probe: Probe, of: Reading, page: JudgedPage) -> list[Reading]:
    """The child lists of the parents on a page that may hold something of the range."""
    wanted = context.wanted
    below = read_for(context.catalogue, wanted.streams, probe.stream)
    moved = context.redated.get(probe.stream.name, {})
    opened: list[Reading] = []
    for row, raw in page.rows.values() if below else ():
        known = row.id in probe.list_sweep.place.last or row.id in probe.list_sweep.opened
        seen = known or not within(row.date, of.since, of.until)
        late = _follows_up(of) or (wanted.until and row.date >= wanted.until)
        if seen or (late and row.id not in moved):
            continue
        for child in below:
            counter = counters.read(raw, child.counters)
            if not child.counters or counters.moved(counter, None):
                reading = child_reading(child, row.id, row.date, counter, wanted)
                opened.append(replace(reading, date=row.date, title=row.fields.get("title")))
    return opened


def _parted(
    of: Reading, sweep: Sweep, page: Seen, habits: Habits, cap: int
) -> tuple[Reading, Reading] | None:
    """The list in two parts, the one that is being read and an older one, where that is worth its cost.

    How much there is left, the last page tells by the time that it spans.
    """
    if of.since is None or not page.dates or habits.order is not Order.NEWEST or sweep.place.page:
        return None
    reached, spans = page.dates[-1], page.dates[0] - page.dates[-1]
    # Before its parent's date there is nothing, but for a few rows of one that has another date now.
    left = reached - max(of.since, of.date or of.since)
    if not spans or left / spans < WORTH_PARTING or page.count < cap:
        return None
    middle = (reached - left / 2).replace(microsecond=0)
    older = replace(_dated(of.stream, of.parent, of.since, middle), date=of.date, title=of.title)
    younger = replace(sweep, place=replace(sweep.place, since=Place.around(middle).since), low=middle)
    return replace(of, since=middle, place=resuming.dump(younger)), older

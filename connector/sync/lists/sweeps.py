"""A sweep of one list of rows: how far back it has to look, and when it is whole; without I/O.

Its state is kept in the store after each page, so that a sweep cut short goes on where it stood.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connector.beamer.pages import Habits, Order, Place, Seen, Way, turn
from connector.sync.lists.counters import UNKNOWN, risen, total, waiting


@dataclass(frozen=True, slots=True)
class Sweep:
    """Where a sweep stands.

    `low`: rows older than this are not looked for (None: the whole list is read). `began`: the parent's
    counter before the first page. `expected`: how many new rows it promised. `trusting`: the list is
    taken to come newest first, and is asked from its newest row without a bound. `first`: the list was
    never read. `reached`: the last page's last date. `resumed`: rows may have shifted between its pages.
    `by_date`: each page overlaps the one before, which costs more pages and lets no row slip past.
    `thrifty`: done as soon as all rows that the counter promised were found, newest first, and known ones
    behind them. Should one of them have been another, the counter's next move shows it: sums do not forget.
    `shallow`: it ended so before the whole lookback was read. `read_before`: what stood on the last page
    that a run before has read, which may be shown again. `begun`: when its first page was read. `since` and
    `until`: the bounds that were asked for then. `counted`: how many rows Beamer says that there are between
    them. `doubtful`: a short page ends it only when it was looked behind. `opened`: in a list without order,
    the parents whose lists a backfill has opened. `sure`: its counter is believed. `unusable`: how many rows
    were newly quarantined; they may be what its counter promised, and are never more than it said.
    """

    place: Place
    low: datetime | None
    began: str = ""
    expected: int = 0
    trusting: bool = False
    found: int = 0
    read: int = 0
    pages: int = 0
    fresh_in_pass: int = 0
    newest: datetime | None = None
    waits: datetime | None = None
    again: int = 0
    first: bool = False
    reached: datetime | None = None
    resumed: bool = False
    by_date: bool = True
    thrifty: bool = False
    shallow: bool = False
    read_before: tuple[str, ...] = ()
    begun: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    counted: int | None = None
    doubtful: bool = False
    sure: bool = False
    opened: tuple[str, ...] = ()
    unusable: int = 0

    @property
    def brought(self) -> int:
        """New rows, whether or not they can be used."""
        return self.found + self.unusable


@dataclass(frozen=True, slots=True)
class SweptPage:
    """A page as a sweep sees it: `fresh` rows were new; `waits` is the oldest that is not settled.

    `unusable` ones were new, too, and are not among the `fresh`.
    """

    seen: Seen
    fresh: int
    waits: datetime | None = None
    unusable: int = 0

    @property
    def brought(self) -> int:
        """New rows, whether or not they can be used."""
        return self.fresh + self.unusable


@dataclass(frozen=True, slots=True)
class SweepStep:
    """The sweep after a page; `done` when it is whole."""

    habits: Habits
    sweep: Sweep
    done: bool


def begin_child(
    counter: str,
    swept: str | None,
    surplus: int,
    low: datetime,
    habits: Habits,
    cap: int,
    *,
    young: bool = False,
    thrifty: bool = False,
    sure: bool = False,
) -> Sweep:
    """Begin reading a child list; `young`: its parent is not older than `low`, so no row can be.

    A list that its counter says fits on a page is read whole: looking further back costs nothing there.
    """
    whole = _fits(counter, cap) or (swept is None and young)
    expected = 0 if swept is None else waiting(counter, swept, surplus)
    dated = begin_dated(low, habits, first=False)
    sweep = Sweep(Place(), None, by_date=False) if whole else dated
    return replace(sweep, began=counter, expected=expected, first=swept is None, thrifty=thrifty, sure=sure)


def begin_audit(counter: str, start: datetime, *, young: bool, expected: int = 0) -> Sweep:
    """Read a list back to the start date, whatever its counter says; `young`: all of it came since then."""
    counted = total(counter) if young and UNKNOWN not in counter else None
    return Sweep(Place.around(start), None, began=counter, counted=counted, expected=expected)


def begin_dated(low: datetime, habits: Habits, *, first: bool, bound: datetime | None = None) -> Sweep:
    """Begin reading a list back to `low`.

    Newest first, looking further back costs nothing: the list is asked from its newest row on, down to
    `bound` at most. In any other order only the window from `low` on is asked for.
    """
    if habits.order is Order.NEWEST and not first:
        return Sweep(Place(since=bound), low, trusting=True)
    return Sweep(Place.around(low), low)


def after_page(sweep: Sweep, page: SweptPage, habits: Habits, cap: int) -> SweepStep:
    """Judge a page and say how the sweep goes on."""
    turned = turn(sweep.place, page.seen, habits, Way(cap, sweep.by_date))
    if turned.repeat and turned.next is not None:
        return SweepStep(turned.habits, replace(sweep, place=turned.next), done=False)
    grown = _grown(sweep, page)
    # Where a short page ends a list, or it is not known yet, one look behind it says so.
    if turned.next is not None and turned.habits.short_ends is False and _all_read(grown):
        return SweepStep(turned.habits, grown, done=True)
    if turned.next is not None:
        return SweepStep(turned.habits, *_onward(grown, page, turned.next, cap))
    return SweepStep(turned.habits, *_ended(grown, page.seen, turned.habits))


def _all_read(sweep: Sweep) -> bool:
    """Whether a list that is read whole has shown all that its counter says; then nothing is behind it.

    A row that the counter does not show yet is read for when it does.
    """
    if not sweep.sure or sweep.low is not None or sweep.resumed or UNKNOWN in sweep.began:
        return False
    return sweep.read >= total(sweep.began) and sweep.brought >= sweep.expected


def _grown(sweep: Sweep, page: SweptPage) -> Sweep:
    seen = page.seen
    if not sweep.pages:
        sweep = replace(sweep, since=sweep.place.since, until=sweep.place.until)
    again = len(set(seen.ids) & set(sweep.place.last))
    return replace(
        sweep,
        found=sweep.found + page.fresh,
        unusable=sweep.unusable + page.unusable,
        fresh_in_pass=sweep.fresh_in_pass + page.brought,
        read=sweep.read + seen.count - again,
        pages=sweep.pages + 1,
        newest=max(filter(None, (sweep.newest, *seen.dates)), default=None),
        waits=min(filter(None, (sweep.waits, page.waits)), default=None),
        reached=seen.dates[-1] if seen.dates else sweep.reached,
        read_before=(),
    )


def _onward(sweep: Sweep, page: SweptPage, place: Place, cap: int) -> tuple[Sweep, bool]:
    seen = page.seen
    ordered = seen.order is Order.NEWEST
    if sweep.thrifty and ordered and 0 < sweep.expected <= sweep.brought and page.brought < seen.count:
        return replace(sweep, shallow=not sweep.low or seen.dates[-1] >= sweep.low), True
    if sweep.low and ordered and seen.dates[-1] < sweep.low and sweep.brought >= sweep.expected:
        return sweep, True
    if sweep.trusting and not ordered and seen.count >= cap and len(set(seen.dates)) > 1 and sweep.low:
        return _restart(sweep, Place.around(sweep.low), sweep.low), False
    return replace(sweep, place=place), False


def _ended(sweep: Sweep, seen: Seen, habits: Habits) -> tuple[Sweep, bool]:
    short = _short_of_promise(sweep)
    first = sweep.first and sweep.low is not None and not sweep.trusting
    if sweep.counted is None:
        less = (short or first) and sweep.read < (total(sweep.began) if sweep.began else 0)
    else:
        less = sweep.read < sweep.counted
    if (less or sweep.doubtful) and seen.count and not sweep.place.behind_short:
        # Rows hidden after the page was cut make it look like the last one.
        place = replace(sweep.place, page=sweep.place.page + 1, last=seen.ids, behind_short=True)
        return replace(sweep, place=place), False
    if short and sweep.low is not None and not sweep.trusting:
        # The counter promised more than the window held: a row may have come with an older date.
        return _restart(sweep, Place(), None), False
    if short and sweep.low is None and sweep.pages > 1 and sweep.again == 0 and not _steady(sweep, habits):
        # A deletion while paging by number moves rows onto pages already read.
        return _restart(sweep, Place(), None), False
    shifted = sweep.resumed or not sweep.began
    if shifted and sweep.pages > 1 and habits.order is Order.NONE and sweep.fresh_in_pass:
        return _restart(sweep, Place(sweep.since, sweep.until), sweep.low), False
    return sweep, True


def _steady(sweep: Sweep, habits: Habits) -> bool:
    """Read on by date, no row can slip past."""
    ordered = habits.order in (Order.NEWEST, Order.OLDEST)
    return sweep.by_date and ordered and (sweep.place.page == 0 or sweep.place.behind_short)


def _short_of_promise(sweep: Sweep) -> bool:
    """Whether the counter had shown more than was found."""
    if sweep.first:
        return (sweep.low is None or sweep.trusting) and sweep.read < total(sweep.began)
    return sweep.brought < sweep.expected


def _restart(sweep: Sweep, place: Place, low: datetime | None) -> Sweep:
    return replace(
        sweep,
        place=place,
        low=low,
        trusting=False,
        read=0,
        pages=0,
        fresh_in_pass=0,
        again=sweep.again + 1,
        reached=None,
        by_date=True,
    )


def _fits(counter: str, cap: int) -> bool:
    return UNKNOWN not in counter and total(counter) <= cap


def surplus_after(sweep: Sweep, swept: str | None, surplus: int) -> int:
    """How many rows were found that the counter has still to show; of unusable ones nobody knows it."""
    if swept is None:
        # Rows read twice, in overlaps after a stop, are no surplus.
        known = sweep.low is None and not sweep.resumed
        return max(0, sweep.read - sweep.unusable - total(sweep.began)) if known else 0
    if total(sweep.began) < total(swept):
        return surplus
    return max(0, surplus + sweep.found - risen(sweep.began, swept))


def watermark_after(sweep: Sweep, before: datetime | None, now: datetime) -> datetime | None:
    """The newest row's date, never past `now`, never past a row that is not settled, never back.

    Nor past when a sweep was begun that a later run took up again: what has come since may stand, in a list
    without order, on a page that was read before.
    """
    begun = sweep.begun if sweep.resumed else None
    bounds = [moment for moment in (sweep.newest, sweep.waits, now, begun) if moment]
    reached = min(bounds) if sweep.newest else None
    return max(filter(None, (before, reached)), default=None)


def lowest(start: datetime, watermark: datetime | None, lookback: timedelta) -> datetime:
    """How far back a sweep has to look."""
    return start if watermark is None else max(start, watermark - lookback)

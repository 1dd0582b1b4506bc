"""A pass over one list: how far back it has to read, when it is whole, how it is resumed; without I/O."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from json import dumps, loads
from typing import Any

from connector.beamer.pagination import Habits, Order, Place, Seen, Turn, Way, turn
from connector.clock import SECOND
from connector.sync.lists import blocks
from connector.sync.lists.blocks import Part, edge
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
    were newly quarantined; they may be what its counter promised, and are never more than it said. `bad`:
    how many could not be used, newly quarantined or not.
    `parts` are still to be read besides; of those that failed, the list counts as read without. A `hole`
    is nothing but such parts. `failures`, `failed_at` and `step` are those of the part that is being read.
    `front`: a list taken up again is asked from its newest row on, and that page was not read yet; `ahead`:
    it was, and none of what had been left unread. `known`: the list was read before, so that a page with
    nothing but new rows is not its last one, however short. `owed`: how many rows its counter has announced
    to earlier readings that did not find them.
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
    bad: int = 0
    parts: tuple[Part, ...] = ()
    hole: bool = False
    failures: int = 0
    failed_at: datetime | None = None
    step: float | None = None
    front: bool = False
    ahead: bool = False
    known: bool = False
    owed: int = 0

    @property
    def brought(self) -> int:
        """New rows, whether or not they can be used."""
        return self.found + self.unusable

    @property
    def part(self) -> Part:
        """The part that is being read."""
        return Part(self.place, self.low, self.failures, self.failed_at, self.step)

    @property
    def unread(self) -> tuple[Part, ...]:
        """The part that is being read, and the others."""
        return self.part, *self.parts


@dataclass(frozen=True, slots=True)
class SweptPage:
    """A page as a sweep sees it: `fresh` rows were new; `waits` is the oldest that is not settled.

    `unusable` ones were new, too, and are not among the `fresh`; `bad` ones cannot be used, new or not.
    """

    seen: Seen
    fresh: int
    waits: datetime | None = None
    unusable: int = 0
    bad: int = 0

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
    sweep = replace(sweep, known=swept is not None and total(swept) > 0, owed=max(0, -surplus))
    return replace(sweep, began=counter, expected=expected, first=swept is None, thrifty=thrifty, sure=sure)


def begin_audit(counter: str, start: datetime, *, young: bool, expected: int = 0) -> Sweep:
    """Read a list back to the start date, whatever its counter says; `young`: all of it came since then."""
    counted = total(counter) if young and UNKNOWN not in counter else None
    return Sweep(Place.around(start), None, began=counter, counted=counted, expected=expected, known=True)


def begin_dated(low: datetime, habits: Habits, *, first: bool, bound: datetime | None = None) -> Sweep:
    """Begin reading a list back to `low`.

    Newest first, looking further back costs nothing: the list is asked from its newest row on, down to
    `bound` at most. In any other order only the window from `low` on is asked for.
    """
    if habits.order is Order.NEWEST and not first:
        return Sweep(Place(since=bound), low, trusting=True, known=True)
    return Sweep(Place.around(low), low, known=not first)


def after_page(
    sweep: Sweep, page: SweptPage, habits: Habits, cap: int, now: datetime | None = None
) -> SweepStep:
    """Judge a page and say how the sweep goes on: a part that was read to its end is followed by the next.

    One that failed comes when its wait is over `now`: in a list with news in every run, nothing else asks it.
    """
    step = _after_page(sweep, page, habits, cap)
    parts = step.sweep.parts
    if not step.done or sweep.hole or not parts:
        return step
    if parts[0].failures and (now is None or not parts[0].ready(now)):
        return step
    return SweepStep(step.habits, at_part(step.sweep, parts[0], parts[1:]), done=False)


def at_part(sweep: Sweep, part: Part, others: tuple[Part, ...]) -> Sweep:
    """Return the sweep as it goes on with a part of the list."""
    return replace(
        sweep,
        place=part.place,
        low=part.low,
        failures=part.failures,
        failed_at=part.failed_at,
        step=part.step,
        parts=others,
        trusting=False,
        shallow=False,
        thrifty=False,
        reached=None,
        by_date=True,
    )


def beside(sweep: Sweep, parts: tuple[Part, ...]) -> Sweep:
    """Return a sweep that begins at the newest row and leaves to the `parts` what they hold."""
    newest = edge(parts)
    if newest is None:
        return replace(sweep, parts=parts)
    low = max(newest, sweep.low or newest)
    if not any(part.failures for part in parts):
        return replace(sweep, low=low, parts=parts)
    # Asked without a bound, its first page might hold the row at which the parts fail.
    return replace(sweep, place=Place.around(low), low=low, trusting=False, by_date=True, parts=parts)


def _after_page(sweep: Sweep, page: SweptPage, habits: Habits, cap: int) -> SweepStep:
    turned = turn(sweep.place, page.seen, habits, Way(cap, sweep.by_date))
    if turned.repeat and turned.next is not None:
        return SweepStep(turned.habits, replace(sweep, place=turned.next), done=False)
    grown = _grown(sweep, page)
    # Where a short page ends a list, or it is not known yet, one look behind it says so.
    if turned.next is not None and turned.habits.short_ends is False and _all_read(grown):
        return SweepStep(turned.habits, grown, done=True)
    if turned.next is not None:
        return SweepStep(turned.habits, *_onward(grown, page, turned, cap))
    return SweepStep(turned.habits, *_ended(grown, page, turned.habits))


def may_be_over(sweep: Sweep) -> bool:
    """Return whether the page that is asked next may lie behind the last one, by its number.

    Behind a full page only where rows were counted: a window that holds ten may hold more.
    """
    if not sweep.place.page or sweep.place.behind_short:
        return sweep.place.page > 0
    if sweep.counted is not None:
        return sweep.read >= sweep.counted
    if sweep.low is None and sweep.began and UNKNOWN not in sweep.began:
        return sweep.read >= total(sweep.began)
    return False


def fails_behind(sweep: Sweep) -> bool:
    """Return whether the page asked next lies behind a short one, as did one that failed before."""
    failed = any(part.failures and part.place.behind_short for part in sweep.unread)
    return sweep.place.behind_short and failed


def _all_read(sweep: Sweep) -> bool:
    """Whether a list that is read whole has shown all that its counter says; then nothing is behind it.

    A row that the counter does not show yet is read for when it does.
    """
    if not sweep.sure or sweep.low is not None or sweep.resumed or sweep.parts or UNKNOWN in sweep.began:
        return False
    return sweep.read >= total(sweep.began) and sweep.brought >= sweep.expected


def _grown(sweep: Sweep, page: SweptPage) -> Sweep:
    seen = page.seen
    if not sweep.pages:
        sweep = replace(sweep, since=sweep.place.since, until=sweep.place.until)
    return replace(
        sweep,
        found=sweep.found + page.fresh,
        unusable=sweep.unusable + page.unusable,
        bad=sweep.bad + page.bad,
        fresh_in_pass=sweep.fresh_in_pass + page.brought,
        read=sweep.read + seen.count - _shown_again(sweep, seen),
        pages=sweep.pages + 1,
        newest=max(filter(None, (sweep.newest, *seen.dates)), default=None),
        waits=min(filter(None, (sweep.waits, page.waits)), default=None),
        reached=seen.dates[-1] if seen.dates else sweep.reached,
        read_before=(),
        step=abs((seen.dates[0] - seen.dates[-1]).total_seconds()) or sweep.step
        if seen.dates
        else sweep.step,
        front=False,
        ahead=sweep.front,
    )


def _shown_again(sweep: Sweep, seen: Seen) -> int:
    """How many rows of a page stood on the one before it, too."""
    return len(set(seen.ids) & {*sweep.place.last, *sweep.read_before})


def _onward(sweep: Sweep, page: SweptPage, turned: Turn, cap: int) -> tuple[Sweep, bool]:
    seen, habits, place = page.seen, turned.habits, turned.next or sweep.place
    ordered = seen.order is Order.NEWEST
    if sweep.thrifty and ordered and 0 < sweep.expected <= sweep.brought and page.brought < seen.count:
        return replace(sweep, shallow=not sweep.low or seen.dates[-1] >= sweep.low), True
    enough = sweep.parts or sweep.brought >= sweep.expected
    if sweep.low and ordered and seen.dates[-1] < sweep.low and enough:
        return sweep, True
    full = seen.count >= habits.full(cap)
    if sweep.trusting and not ordered and full and len(set(seen.dates)) > 1 and sweep.low:
        return _restart(sweep, Place.around(sweep.low), sweep.low), False
    return replace(sweep, place=place), False


def _ended(sweep: Sweep, page: SweptPage, habits: Habits) -> tuple[Sweep, bool]:
    seen, short = page.seen, _short_of_promise(sweep)
    first = sweep.first and sweep.low is not None and not sweep.trusting
    if sweep.counted is None:
        less = (short or first) and sweep.read < (total(sweep.began) if sweep.began else 0)
    else:
        less = sweep.read < sweep.counted
    doubtful = less or sweep.doubtful or _unreached(sweep, page, habits)
    if doubtful and seen.count and not sweep.place.behind_short:
        # Rows hidden after the page was cut make it look like the last one.
        place = replace(sweep.place, page=sweep.place.page + 1, last=seen.ids, behind_short=True)
        return replace(sweep, place=place), False
    if sweep.parts:
        # What is missing may stand there.
        return sweep, True
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


def _unreached(sweep: Sweep, page: SweptPage, habits: Habits) -> bool:
    """Whether new rows may stand behind a short page: pages may hold fewer rows than before.

    Newest first, they do where a list whose rows are known has shown new ones only. In another order only a
    counter tells.
    """
    if not sweep.known:
        return False
    if habits.order in (Order.OLDEST, Order.NONE):
        return not sweep.began or sweep.brought < sweep.expected + sweep.owed
    seen = page.seen
    if sweep.parts or (sweep.low is not None and any(date < sweep.low for date in seen.dates)):
        return False
    # What is not settled is not known either.
    young = sum(date >= page.waits for date in seen.dates) if page.waits else 0
    return page.brought + _shown_again(sweep, seen) + young >= seen.count


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
    """How many rows were found that the counter has still to show.

    Below zero, how many the counter announced that were not found, or not in a form that can be used: such a
    row may have been shown half-made. It is no surplus, since nobody knows whether the counter counts it.
    """
    whole, more = _whole(sweep), sweep.read - total(sweep.began)
    usable = more - sweep.bad
    if swept is None:
        if not whole:
            # Which rows its counter counts is not known: older ones, too.
            return -sweep.unusable
        if usable > 0:
            # Rows read twice, in overlaps after a stop, are no surplus.
            return 0 if sweep.resumed else usable
        return 0 if UNKNOWN in sweep.began else usable
    after = surplus - risen(sweep.began, swept) + sweep.found
    if not whole or sweep.resumed or UNKNOWN in sweep.began:
        return after
    # What stands in the list itself says more than sums: a row that was announced may have been deleted.
    return max(min(after, max(0, more)), min(0, usable))


def _whole(sweep: Sweep) -> bool:
    """Whether it read all rows of its list."""
    if sweep.shallow:
        return False
    if sweep.low is None:
        return sweep.since is None or sweep.counted is not None
    # Newest first, it would have ended behind the first row that is older.
    return sweep.trusting and sweep.since is None and (sweep.reached is None or sweep.reached >= sweep.low)


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


# No list has as many rows or pages.
HIGHEST = 2**40


def dump(sweep: Sweep) -> str:
    said = {**_said(sweep), "place": _said(sweep.place)}
    if sweep.parts:
        said["parts"] = [{**_said(part), "place": _said(part.place)} for part in sweep.parts]
    return dumps(said, default=datetime.isoformat)


def _said(state: Sweep | Place | Part) -> dict[str, Any]:
    """What differs from how every one begins: most of it never does."""
    values = ((each.name, getattr(state, each.name), each.default) for each in fields(state))
    return {name: value for name, value, default in values if value != default and name != "parts"}


def restore(text: str) -> Sweep:
    """A sweep as it was kept; raises ValueError where that cannot be read, or is of another version."""
    try:
        values = loads(text)
        place, left = _place(values.pop("place")), tuple(map(_part, values.pop("parts", ())))
        return Sweep(place=place, parts=left, **{"low": None, **_read(Sweep, values)})
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("no pass of this version") from None


def restored(text: str) -> Sweep | None:
    """A sweep as it was kept; None where that cannot be read."""
    try:
        return restore(text)
    except ValueError:
        return None


def _place(said: dict[str, Any]) -> Place:
    return Place(**_read(Place, said))


def _part(said: dict[str, Any]) -> Part:
    place = _place(said.pop("place"))
    return Part(**{**_read(Part, said), "place": place})


_DATES = ("low", "newest", "waits", "reached", "begun", "since", "until", "failed_at")


def _read(kind: type[Sweep | Place | Part], values: dict[str, Any]) -> dict[str, Any]:
    """The values of some fields; raises ValueError, TypeError or KeyError for any other."""
    defaults = {each.name: each.default for each in fields(kind)}
    return {
        name: _date(value) if name in _DATES else _like(defaults[name], value)
        for name, value in values.items()
    }


def _like(default: object, value: Any) -> Any:
    """The value, if it is of its default's type; a number stands where there is none by default."""
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if isinstance(default, bool | str):
        if type(value) is not type(default):
            raise TypeError
        # The one text of a sweep is a counter.
        return value if isinstance(value, bool) or total(value) >= 0 else default
    if type(value) not in ((int, float) if default is None else (int,)) or not 0 <= value < HIGHEST:
        raise TypeError
    return value


def _date(said: str | None) -> datetime | None:
    if said is None:
        return None
    found = datetime.fromisoformat(said)
    if found.tzinfo is None:
        raise ValueError("a date without a time zone")
    return found


def resumed(sweep: Sweep, habits: Habits) -> Sweep:
    """Go on in a later run: rows have come and gone since, so pages have shifted, but dates have not."""
    place, by_date = sweep.place, sweep.by_date
    if place.page and not place.behind_short and sweep.reached:
        if habits.order is Order.NEWEST:
            place, by_date = Place(place.since, sweep.reached + SECOND), True
        elif habits.order is Order.OLDEST:
            place, by_date = Place(sweep.reached - SECOND, place.until), True
    return replace(sweep, place=place, by_date=by_date, resumed=True, read_before=sweep.place.last)


def taken_up(stored: Sweep, habits: Habits, now: datetime, begun: Sweep | None) -> Sweep:
    """Return a sweep that was cut short as a later run takes it up.

    It goes on with what was left unread; before that, from the newest row on, where `begun` is how the list
    would be read if it began now.
    """
    sweep = resumed(stored, habits)
    left = blocks.in_order(sweep.unread, now)
    if begun is None:
        return at_part(sweep, left[0], left[1:]) if sweep.parts else sweep
    front = beside(begun, left)
    # What is counted goes on; when it began is told anew, since the newest rows are read again.
    return replace(
        front,
        found=sweep.found,
        unusable=sweep.unusable,
        bad=sweep.bad,
        read=sweep.read,
        pages=sweep.pages,
        fresh_in_pass=sweep.fresh_in_pass,
        newest=sweep.newest,
        waits=sweep.waits,
        again=sweep.again,
        first=sweep.first,
        resumed=True,
        thrifty=False,
        sure=False,
        since=sweep.since,
        until=sweep.until,
        front=True,
    )


def wants_front(stored: Sweep, habits: Habits, now: datetime, *, moved: bool) -> bool:
    """Return whether a list that was cut short is asked from its newest row on before it goes on.

    Not twice in a row, or a run that may send one request would never get further; nor in a list without
    order, unless something failed there: what is new may stand anywhere in what is left.
    """
    if not any(part.ready(now) for part in stored.unread):
        return True
    failed = any(part.failures for part in stored.unread)
    return not stored.ahead and (failed or (moved and habits.order is Order.NEWEST))


def hole(left: tuple[Part, ...], now: datetime) -> Sweep:
    """Return the sweep of parts that failed, of a list that was read but for them."""
    first, *others = blocks.in_order(left, now)
    return at_part(Sweep(Place(), None, hole=True, resumed=True), first, tuple(others))


def left_of(sweep: Sweep, now: datetime) -> str | None:
    """Return what is kept of a sweep that is done: the parts that failed."""
    return dump(hole(sweep.parts, now)) if sweep.parts else None


def given_up(sweep: Sweep, habits: Habits, now: datetime, floor: datetime, *, patient: bool) -> Sweep:
    """Return the sweep after its next page failed for good: it goes on with other parts of the list.

    `floor`: nothing older is of interest; `patient`: see `parts.failed`.
    """
    sweep = resumed(sweep, habits)
    here, others = sweep.part, sweep.parts
    newest = max(others, key=lambda part: part.place.until or now, default=None)
    if (
        sweep.front
        and newest
        and newest.failures
        and newest.place.until
        and (sweep.low is None or sweep.low <= newest.place.until)
    ):
        # The newest rows fail like those next to them: as one part, or each run would leave one more.
        others = tuple(part for part in others if part is not newest)
        after: tuple[Part, ...] = (blocks.grown(newest, now),)
    else:
        after = blocks.failed(here, now, floor, patient=patient)
    first, *rest = blocks.in_order(blocks.joined((*after, *others)), now)
    sweep = at_part(sweep, first, tuple(rest))
    return replace(sweep, begun=sweep.begun or now, front=False, ahead=False)


def parts_of(place: str | None) -> tuple[Part, ...]:
    """Return the parts of a list of parents that failed, as they are kept."""
    return restore(place).unread if place else ()


def instead(place: str | None, part: Part, after: tuple[Part, ...], now: datetime) -> str | None:
    """Return what is kept of a list of parents when other parts take the place of one, or none."""
    others = [each for each in parts_of(place) if each.place != part.place]
    kept = blocks.joined((*others, *after))
    return dump(hole(kept, now)) if kept else None

"""A pass over one list: how far back it has to read, when it is whole, how it is resumed; without I/O."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from json import dumps, loads
from typing import Any

from connector.beamer.pagination import Cursor, Habits, NextPage, Order, PageRows, PageRules, next_page
from connector.clock import SECOND
from connector.sync.lists import blocks
from connector.sync.lists.blocks import Part, edge
from connector.sync.lists.counters import UNKNOWN, risen, total, waiting


@dataclass(frozen=True, slots=True)
class ListPass:
    """One complete reading of a list, over one or several pages: its bounds, and how far it is.

    It is stored between two runs, by the names of its fields.
    """

    # --- what is read ---
    cursor: Cursor
    # Rows older than this are not looked for; None: the whole list is read.
    low: datetime | None
    # The parent's counter before the first page, and how many new rows it promised.
    began: str = ""
    expected: int = 0
    # How many rows earlier passes did not find, although the counter had announced them.
    owed: int = 0
    # The counter is believed.
    sure: bool = False
    # The list was never read before; or it was, so that a page of nothing but new rows is not its last.
    first: bool = False
    known: bool = False
    # Taken to come newest first, and requested from its newest row without a bound.
    trusting: bool = False
    # Each page overlaps the one before: more pages, but no row slips past.
    by_date: bool = True
    # Done as soon as all rows that the counter promised were found, newest first, with known ones behind
    # them. If one of them was another row, the counter's next change shows it.
    thrifty: bool = False
    # How many rows Beamer counts between the bounds.
    counted: int | None = None
    # Of a list without order: the parents whose lists a backfill has opened.
    opened: tuple[str, ...] = ()

    # --- what was read ---
    # New rows, all rows, and pages; and of new rows, those since the list was last read from its start.
    found: int = 0
    read: int = 0
    pages: int = 0
    fresh_in_pass: int = 0
    # Rows newly in quarantine (the counter may have promised them), and all that are invalid, new or not.
    quarantined: int = 0
    invalid: int = 0
    # The newest date, the oldest one that is not settled, and the last one of the last page.
    newest: datetime | None = None
    waits: datetime | None = None
    reached: datetime | None = None
    # When the first page was read, and the bounds that were requested then.
    begun: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    # How often it began again.
    again: int = 0
    # A short page ends it only when the page behind it was read.
    doubtful: bool = False
    # A thrifty pass that ended before the whole lookback was read.
    shallow: bool = False

    # --- in a later run ---
    # Rows may have moved between its pages.
    resumed: bool = False
    # The ids of the last page of the run before, which may be shown again.
    read_before: tuple[str, ...] = ()
    # It is requested from its newest row on, and that page was not read yet; or it was, but nothing yet of
    # the parts left unread.
    front: bool = False
    ahead: bool = False

    # --- parts of the list ---
    # Still to be read; of those that failed, the list counts as read without. A hole is nothing but those.
    parts: tuple[Part, ...] = ()
    hole: bool = False
    # Of the part that is being read.
    failures: int = 0
    failed_at: datetime | None = None
    step: float | None = None

    @property
    def brought(self) -> int:
        """New rows, whether or not they can be used."""
        return self.found + self.quarantined

    @property
    def rows(self) -> int:
        """How many rows it has read, each counted once.

        Of a list that was never read before, all rows are new: what a resumed pass shows twice is not.
        """
        return min(self.read, self.found + self.invalid) if self.first and self.resumed else self.read

    @property
    def part(self) -> Part:
        """The part that is being read."""
        return Part(self.cursor, self.low, self.failures, self.failed_at, self.step)

    @property
    def unread(self) -> tuple[Part, ...]:
        """The part that is being read, and the others."""
        return self.part, *self.parts


@dataclass(frozen=True, slots=True)
class PassPage:
    """A page as a pass sees it: `fresh` rows were new; `waits` is the oldest that is not settled.

    `quarantined` ones were new, too, and are not among the `fresh`; `invalid` ones cannot be used, new or
    not.
    """

    seen: PageRows
    fresh: int
    waits: datetime | None = None
    quarantined: int = 0
    invalid: int = 0

    @property
    def brought(self) -> int:
        """New rows, whether or not they can be used."""
        return self.fresh + self.quarantined


@dataclass(frozen=True, slots=True)
class PassStep:
    """The pass after a page; `done` when it is whole."""

    habits: Habits
    list_pass: ListPass
    done: bool


def begin_child(
    counter: str,
    read_counter: str | None,
    surplus: int,
    low: datetime,
    habits: Habits,
    cap: int,
    *,
    young: bool = False,
    thrifty: bool = False,
    sure: bool = False,
) -> ListPass:
    """Begin reading a child list; `young`: its parent is not older than `low`, so no row can be.

    A list that its counter says fits on a page is read whole: looking further back costs nothing there.
    """
    whole = _fits(counter, cap) or (read_counter is None and young)
    expected = 0 if read_counter is None else waiting(counter, read_counter, surplus)
    dated = begin_dated(low, habits, first=False)
    pass_ = ListPass(Cursor(), None, by_date=False) if whole else dated
    pass_ = replace(pass_, known=read_counter is not None and total(read_counter) > 0, owed=max(0, -surplus))
    return replace(
        pass_, began=counter, expected=expected, first=read_counter is None, thrifty=thrifty, sure=sure
    )


def begin_audit(counter: str, start: datetime, *, young: bool, expected: int = 0) -> ListPass:
    """Read a list back to the start date, whatever its counter says; `young`: all of it came since then."""
    counted = total(counter) if young and UNKNOWN not in counter else None
    return ListPass(Cursor.around(start), None, began=counter, counted=counted, expected=expected, known=True)


def begin_dated(low: datetime, habits: Habits, *, first: bool, bound: datetime | None = None) -> ListPass:
    """Begin reading a list back to `low`.

    Newest first, looking further back costs nothing: the list is asked from its newest row on, down to
    `bound` at most. In any other order only the window from `low` on is asked for.
    """
    if habits.order is Order.NEWEST and not first:
        return ListPass(Cursor(since=bound), low, trusting=True, known=True)
    return ListPass(Cursor.around(low), low, known=not first)


def after_page(
    pass_: ListPass, page: PassPage, habits: Habits, cap: int, now: datetime | None = None
) -> PassStep:
    """Judge a page and say how the pass goes on: a part that was read to its end is followed by the next.

    One that failed comes when its wait is over `now`: in a list with news in every run, nothing else asks it.
    """
    step = _after_page(pass_, page, habits, cap)
    parts = step.list_pass.parts
    if not step.done or pass_.hole or not parts:
        return step
    if parts[0].failures and (now is None or not parts[0].ready(now)):
        return step
    return PassStep(step.habits, at_part(step.list_pass, parts[0], parts[1:]), done=False)


def at_part(pass_: ListPass, part: Part, others: tuple[Part, ...]) -> ListPass:
    """Return the pass as it goes on with a part of the list."""
    return replace(
        pass_,
        cursor=part.cursor,
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


def beside(pass_: ListPass, parts: tuple[Part, ...]) -> ListPass:
    """Return a pass that begins at the newest row and leaves to the `parts` what they hold."""
    newest = edge(parts)
    if newest is None:
        return replace(pass_, parts=parts)
    low = max(newest, pass_.low or newest)
    if not any(part.failures for part in parts):
        return replace(pass_, low=low, parts=parts)
    # Asked without a bound, its first page might hold the row at which the parts fail.
    return replace(pass_, cursor=Cursor.around(low), low=low, trusting=False, by_date=True, parts=parts)


def _after_page(pass_: ListPass, page: PassPage, habits: Habits, cap: int) -> PassStep:
    turned = next_page(pass_.cursor, page.seen, habits, PageRules(cap, pass_.by_date))
    if turned.repeat and turned.next is not None:
        return PassStep(turned.habits, replace(pass_, cursor=turned.next), done=False)
    grown = _grown(pass_, page)
    # Where a short page ends a list, or it is not known yet, one request behind it says so.
    if turned.next is not None and turned.habits.short_ends is False and _all_read(grown):
        return PassStep(turned.habits, grown, done=True)
    if turned.next is not None:
        return PassStep(turned.habits, *_onward(grown, page, turned, cap))
    return PassStep(turned.habits, *_ended(grown, page, turned.habits))


def may_be_over(pass_: ListPass) -> bool:
    """Return whether the page that is asked next may lie behind the last one, by its number.

    Behind a full page only where rows were counted: a window that holds ten may hold more.
    """
    if not pass_.cursor.page or pass_.cursor.behind_short:
        return pass_.cursor.page > 0
    if pass_.counted is not None:
        return pass_.read >= pass_.counted
    if pass_.low is None and pass_.began and UNKNOWN not in pass_.began:
        return pass_.read >= total(pass_.began)
    return False


def fails_behind(pass_: ListPass) -> bool:
    """Return whether the page asked next lies behind a short one, as did one that failed before."""
    failed = any(part.failures and part.cursor.behind_short for part in pass_.unread)
    return pass_.cursor.behind_short and failed


def _all_read(pass_: ListPass) -> bool:
    """Whether a list that is read whole has shown all that its counter says; then nothing is behind it.

    A row that the counter does not show yet is read for when it does.
    """
    if not pass_.sure or pass_.low is not None or pass_.resumed or pass_.parts or UNKNOWN in pass_.began:
        return False
    return pass_.read >= total(pass_.began) and pass_.brought >= pass_.expected


def _grown(pass_: ListPass, page: PassPage) -> ListPass:
    seen = page.seen
    if not pass_.pages:
        pass_ = replace(pass_, since=pass_.cursor.since, until=pass_.cursor.until)
    return replace(
        pass_,
        found=pass_.found + page.fresh,
        quarantined=pass_.quarantined + page.quarantined,
        invalid=pass_.invalid + page.invalid,
        fresh_in_pass=pass_.fresh_in_pass + page.brought,
        read=pass_.read + seen.count - _shown_again(pass_, seen),
        pages=pass_.pages + 1,
        newest=max(filter(None, (pass_.newest, *seen.dates)), default=None),
        waits=min(filter(None, (pass_.waits, page.waits)), default=None),
        reached=seen.dates[-1] if seen.dates else pass_.reached,
        read_before=(),
        step=abs((seen.dates[0] - seen.dates[-1]).total_seconds()) or pass_.step
        if seen.dates
        else pass_.step,
        front=False,
        ahead=pass_.front,
    )


def _shown_again(pass_: ListPass, seen: PageRows) -> int:
    """How many rows of a page stood on the one before it, too."""
    return len(set(seen.ids) & {*pass_.cursor.last, *pass_.read_before})


def _onward(pass_: ListPass, page: PassPage, turned: NextPage, cap: int) -> tuple[ListPass, bool]:
    seen, habits, cursor = page.seen, turned.habits, turned.next or pass_.cursor
    ordered = seen.order is Order.NEWEST
    if pass_.thrifty and ordered and 0 < pass_.expected <= pass_.brought and page.brought < seen.count:
        return replace(pass_, shallow=not pass_.low or seen.dates[-1] >= pass_.low), True
    enough = pass_.parts or pass_.brought >= pass_.expected
    if pass_.low and ordered and seen.dates[-1] < pass_.low and enough:
        return pass_, True
    full = seen.count >= habits.full(cap)
    if pass_.trusting and not ordered and full and len(set(seen.dates)) > 1 and pass_.low:
        return _restart(pass_, Cursor.around(pass_.low), pass_.low), False
    return replace(pass_, cursor=cursor), False


def _ended(pass_: ListPass, page: PassPage, habits: Habits) -> tuple[ListPass, bool]:
    seen, short = page.seen, _short_of_promise(pass_)
    first = pass_.first and pass_.low is not None and not pass_.trusting
    if pass_.counted is None:
        less = (short or first) and pass_.rows < (total(pass_.began) if pass_.began else 0)
    else:
        less = pass_.read < pass_.counted
    doubtful = less or pass_.doubtful or _unreached(pass_, page, habits)
    if doubtful and seen.count and not pass_.cursor.behind_short:
        # Rows hidden after the page was cut make it look like the last one.
        cursor = replace(pass_.cursor, page=pass_.cursor.page + 1, last=seen.ids, behind_short=True)
        return replace(pass_, cursor=cursor), False
    if pass_.parts:
        # What is missing may stand there.
        return pass_, True
    if short and pass_.low is not None and not pass_.trusting:
        # The counter promised more than the window held: a row may have come with an older date.
        return _restart(pass_, Cursor(), None), False
    if short and pass_.low is None and pass_.pages > 1 and pass_.again == 0 and not _steady(pass_, habits):
        # A deletion while paging by number moves rows onto pages already read.
        return _restart(pass_, Cursor(), None), False
    shifted = pass_.resumed or not pass_.began
    if shifted and pass_.pages > 1 and habits.order is Order.NONE and pass_.fresh_in_pass:
        return _restart(pass_, Cursor(pass_.since, pass_.until), pass_.low), False
    return pass_, True


def _unreached(pass_: ListPass, page: PassPage, habits: Habits) -> bool:
    """Whether new rows may stand behind a short page: pages may hold fewer rows than before.

    Newest first, they do where a list whose rows are known has shown new ones only. In another order only a
    counter tells.
    """
    if not pass_.known:
        return False
    if habits.order in (Order.OLDEST, Order.NONE):
        return not pass_.began or pass_.brought < pass_.expected + pass_.owed
    seen = page.seen
    if pass_.parts or (pass_.low is not None and any(date < pass_.low for date in seen.dates)):
        return False
    # What is not settled is not known either.
    young = sum(date >= page.waits for date in seen.dates) if page.waits else 0
    return page.brought + _shown_again(pass_, seen) + young >= seen.count


def _steady(pass_: ListPass, habits: Habits) -> bool:
    """Read on by date, no row can slip past."""
    ordered = habits.order in (Order.NEWEST, Order.OLDEST)
    return pass_.by_date and ordered and (pass_.cursor.page == 0 or pass_.cursor.behind_short)


def _short_of_promise(pass_: ListPass) -> bool:
    """Whether the counter had shown more than was found."""
    if pass_.first:
        return (pass_.low is None or pass_.trusting) and pass_.rows < total(pass_.began)
    return pass_.brought < pass_.expected


def _restart(pass_: ListPass, cursor: Cursor, low: datetime | None) -> ListPass:
    return replace(
        pass_,
        cursor=cursor,
        low=low,
        trusting=False,
        read=0,
        pages=0,
        fresh_in_pass=0,
        again=pass_.again + 1,
        reached=None,
        by_date=True,
    )


def _fits(counter: str, cap: int) -> bool:
    return UNKNOWN not in counter and total(counter) <= cap


def surplus_after(pass_: ListPass, read_counter: str | None, surplus: int) -> int:
    """How many rows were found that the counter has still to show.

    Below zero, how many the counter announced that were not found, or not in a form that can be used: such a
    row may have been shown half-made. It is no surplus, since nobody knows whether the counter counts it.
    """
    whole, more = _whole(pass_), pass_.rows - total(pass_.began)
    usable = more - pass_.invalid
    if read_counter is None:
        if not whole:
            # Which rows its counter counts is not known: older ones, too.
            return -pass_.quarantined
        if usable > 0:
            # Rows read twice, in overlaps after a stop, are no surplus.
            return 0 if pass_.resumed else usable
        return 0 if UNKNOWN in pass_.began else usable
    after = surplus - risen(pass_.began, read_counter) + pass_.found
    if not whole or pass_.resumed or UNKNOWN in pass_.began:
        return after
    # What stands in the list itself says more than sums: a row that was announced may have been deleted.
    return max(min(after, max(0, more)), min(0, usable))


def _whole(pass_: ListPass) -> bool:
    """Whether it read all rows of its list."""
    if pass_.shallow:
        return False
    if pass_.low is None:
        return pass_.since is None or pass_.counted is not None
    # Newest first, it would have ended behind the first row that is older.
    return pass_.trusting and pass_.since is None and (pass_.reached is None or pass_.reached >= pass_.low)


def watermark_after(pass_: ListPass, before: datetime | None, now: datetime) -> datetime | None:
    """The newest row's date, never past `now`, never past a row that is not settled, never back.

    If a later run resumed the pass, nor past the start of the pass: in an unordered list, newer rows may be
    on a page that was already read.
    """
    begun = pass_.begun if pass_.resumed else None
    bounds = [moment for moment in (pass_.newest, pass_.waits, now, begun) if moment]
    reached = min(bounds) if pass_.newest else None
    return max(filter(None, (before, reached)), default=None)


def lowest(start: datetime, watermark: datetime | None, lookback: timedelta) -> datetime:
    """How far back a pass has to read."""
    return start if watermark is None else max(start, watermark - lookback)


# No list has as many rows or pages.
HIGHEST = 2**40


def dump(pass_: ListPass) -> str:
    said = {**_said(pass_), "cursor": _said(pass_.cursor)}
    if pass_.parts:
        said["parts"] = [{**_said(part), "cursor": _said(part.cursor)} for part in pass_.parts]
    return dumps(said, default=datetime.isoformat)


def _said(state: ListPass | Cursor | Part) -> dict[str, Any]:
    """What differs from how every one begins: most of it never does."""
    values = ((each.name, getattr(state, each.name), each.default) for each in fields(state))
    return {name: value for name, value, default in values if value != default and name != "parts"}


def restore(text: str) -> ListPass:
    """A pass as it was kept; raises ValueError where that cannot be read, or is of another version."""
    try:
        values = loads(text)
        cursor, left = _cursor(values.pop("cursor")), tuple(map(_part, values.pop("parts", ())))
        return ListPass(cursor=cursor, parts=left, **{"low": None, **_read(ListPass, values)})
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("no pass of this version") from None


def restored(text: str) -> ListPass | None:
    """A pass as it was kept; None where that cannot be read."""
    try:
        return restore(text)
    except ValueError:
        return None


def _cursor(said: dict[str, Any]) -> Cursor:
    return Cursor(**_read(Cursor, said))


def _part(said: dict[str, Any]) -> Part:
    cursor = _cursor(said.pop("cursor"))
    return Part(**{**_read(Part, said), "cursor": cursor})


_DATES = ("low", "newest", "waits", "reached", "begun", "since", "until", "failed_at")


def _read(kind: type[ListPass | Cursor | Part], values: dict[str, Any]) -> dict[str, Any]:
    """The values of some fields; raises ValueError, TypeError or KeyError for any other."""
    defaults = {each.name: each.default for each in fields(kind)}
    dates = {name: _date(values[name]) for name in _DATES if name in values}
    return dates | {name: _like(defaults[name], values[name]) for name in values.keys() - dates.keys()}


def _like(default: object, value: Any) -> Any:
    """The value, if it is of its default's type; a number stands where there is none by default."""
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if isinstance(default, bool | str):
        if type(value) is not type(default):
            raise TypeError
        # The one text of a pass is a counter.
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


def resumed(pass_: ListPass, habits: Habits) -> ListPass:
    """Go on in a later run: rows have come and gone since, so pages have shifted, but dates have not."""
    cursor, by_date = pass_.cursor, pass_.by_date
    if cursor.page and not cursor.behind_short and pass_.reached:
        if habits.order is Order.NEWEST:
            cursor, by_date = Cursor(cursor.since, pass_.reached + SECOND), True
        elif habits.order is Order.OLDEST:
            cursor, by_date = Cursor(pass_.reached - SECOND, cursor.until), True
    return replace(pass_, cursor=cursor, by_date=by_date, resumed=True, read_before=pass_.cursor.last)


def taken_up(stored: ListPass, habits: Habits, now: datetime, begun: ListPass | None) -> ListPass:
    """Return a pass that was cut short as a later run takes it up.

    It goes on with what was left unread; before that, from the newest row on, where `begun` is how the list
    would be read if it began now.
    """
    pass_ = resumed(stored, habits)
    left = blocks.in_order(pass_.unread, now)
    if begun is None:
        return at_part(pass_, left[0], left[1:]) if pass_.parts else pass_
    front = beside(begun, left)
    # What is counted goes on; when it began is told anew, since the newest rows are read again.
    return replace(
        front,
        found=pass_.found,
        quarantined=pass_.quarantined,
        invalid=pass_.invalid,
        read=pass_.read,
        pages=pass_.pages,
        fresh_in_pass=pass_.fresh_in_pass,
        newest=pass_.newest,
        waits=pass_.waits,
        again=pass_.again,
        first=pass_.first,
        resumed=True,
        thrifty=False,
        sure=False,
        since=pass_.since,
        until=pass_.until,
        front=True,
    )


def wants_front(stored: ListPass, habits: Habits, now: datetime, *, moved: bool) -> bool:
    """Return whether a list that was cut short is asked from its newest row on before it goes on.

    Not twice in a row, or a run that may send one request would never get further; nor in a list without
    order, unless something failed there: what is new may stand anywhere in what is left.
    """
    if not any(part.ready(now) for part in stored.unread):
        return True
    failed = any(part.failures for part in stored.unread)
    return not stored.ahead and (failed or (moved and habits.order is Order.NEWEST))


def hole(left: tuple[Part, ...], now: datetime) -> ListPass:
    """Return the pass of parts that failed, of a list that was read but for them."""
    first, *others = blocks.in_order(left, now)
    return at_part(ListPass(Cursor(), None, hole=True, resumed=True), first, tuple(others))


def left_of(pass_: ListPass, now: datetime) -> str | None:
    """Return what is kept of a pass that is done: the parts that failed."""
    return dump(hole(pass_.parts, now)) if pass_.parts else None


def given_up(pass_: ListPass, habits: Habits, now: datetime, floor: datetime, *, patient: bool) -> ListPass:
    """Return the pass after its next page failed for good: it goes on with other parts of the list.

    `floor`: nothing older is of interest; `patient`: see `blocks.failed`.
    """
    pass_ = resumed(pass_, habits)
    here, others = pass_.part, pass_.parts
    newest = max(others, key=lambda part: part.cursor.until or now, default=None)
    if (
        pass_.front
        and newest
        and newest.failures
        and newest.cursor.until
        and (pass_.low is None or pass_.low <= newest.cursor.until)
    ):
        # The newest rows fail like those next to them: as one part, or each run would leave one more.
        others = tuple(part for part in others if part is not newest)
        after: tuple[Part, ...] = (blocks.grown(newest, now),)
    else:
        after = blocks.failed(here, now, floor, patient=patient)
    first, *rest = blocks.in_order(blocks.joined((*after, *others)), now)
    pass_ = at_part(pass_, first, tuple(rest))
    return replace(pass_, begun=pass_.begun or now, front=False, ahead=False)


def parts_of(cursor: str | None) -> tuple[Part, ...]:
    """Return the parts of a list of parents that failed, as they are kept."""
    return restore(cursor).unread if cursor else ()


def instead(cursor: str | None, part: Part, after: tuple[Part, ...], now: datetime) -> str | None:
    """Return what is kept of a list of parents when other parts take the place of one, or none."""
    others = [each for each in parts_of(cursor) if each.cursor != part.cursor]
    kept = blocks.joined((*others, *after))
    return dump(hole(kept, now)) if kept else None

"""A pass over one list: how far back it has to read, when it is whole, how it is resumed; without I/O."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connector.beamer.pagination import Cursor, Habits, NextPage, Order, PageRows, PageRules, next_page
from connector.domain.period import SECOND
from connector.sync.lists import blocks
from connector.sync.lists.blocks import Part, edge
from connector.sync.lists.counters import UNKNOWN, risen, total, waiting


@dataclass(frozen=True, slots=True)
class ListPass:
    """One complete reading of a list, over one or several pages: its bounds, and how far it is.

    It is stored between two runs (stored_pass.py).
    """

    # --- what is read ---
    cursor: Cursor
    # Rows older than this are not looked for; None: the whole list is read.
    low: datetime | None = None
    # The parent's counter before the first page, and how many new rows it promised.
    counter: str = ""
    expected: int = 0
    # How many rows earlier passes did not find, although the counter had announced them.
    missing_before: int = 0
    counter_trusted: bool = False
    # The list was never read before; or it was, so that a page of nothing but new rows is not its last.
    first_reading: bool = False
    known: bool = False
    # Taken to come newest first, and requested from its newest row without a bound.
    newest_first: bool = False
    # Each page overlaps the one before: more pages, but no row slips past.
    by_date: bool = True
    # Done as soon as all rows that the counter promised were found, newest first, with known ones behind
    # them. If one of them was another row, the counter's next change shows it.
    thrifty: bool = False
    # A hint announced rows before the counter did: a thrifty one is done at the first known row.
    hinted: bool = False
    # How many rows Beamer counts between the bounds.
    counted: int | None = None

    # --- what was read ---
    # New rows, all rows, and pages; and of new rows, those since the list was last read from its start.
    new_rows: int = 0
    rows_read: int = 0
    pages: int = 0
    new_since_restart: int = 0
    # Rows newly in quarantine (the counter may have promised them), and all that are invalid, new or not.
    quarantined: int = 0
    invalid: int = 0
    # The newest date, the oldest one that is not settled, and the last one of the last page.
    newest: datetime | None = None
    unsettled: datetime | None = None
    reached: datetime | None = None
    # When the first page was read, and the bounds that were requested then.
    started_at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    # How often it began again.
    restarts: int = 0
    # A short page ends it only when the page behind it was read.
    doubtful: bool = False
    # A thrifty pass that ended before the whole lookback was read.
    shallow: bool = False

    # --- in a later run ---
    # Rows may have moved between its pages.
    resumed: bool = False
    # The ids of the last page of the run before, which may be shown again.
    last_ids_before: tuple[str, ...] = ()
    # It is requested from its newest row on, and that page was not read yet; or it was, but nothing yet of
    # the parts left unread.
    front: bool = False
    front_read: bool = False

    # --- parts of the list ---
    # Still to be read; of those that failed, the list counts as read without. A hole is nothing but those.
    parts: tuple[Part, ...] = ()
    hole: bool = False
    # Of the part that is being read.
    failures: int = 0
    failed_at: datetime | None = None
    step: float | None = None

    @property
    def all_new(self) -> int:
        """New rows, whether or not they can be used."""
        return self.new_rows + self.quarantined

    @property
    def rows(self) -> int:
        """Return how many rows it has read, each counted once.

        Of a list that was never read before, all rows are new: what a resumed pass shows twice is not.
        """
        return (
            min(self.rows_read, self.new_rows + self.invalid)
            if self.first_reading and self.resumed
            else self.rows_read
        )

    @property
    def part(self) -> Part:
        """Return the part that is being read."""
        return Part(self.cursor, self.low, self.failures, self.failed_at, self.step)

    @property
    def unread(self) -> tuple[Part, ...]:
        """Return the part that is being read, and the others."""
        return self.part, *self.parts


@dataclass(frozen=True, slots=True)
class PassPage:
    """A page as a pass sees it: how many rows were new, and the date of the oldest that is not settled.

    `quarantined` rows were new, too, and are not among `new_rows`; `invalid` ones cannot be used, new or not.
    """

    seen: PageRows
    new_rows: int
    unsettled: datetime | None = None
    quarantined: int = 0
    invalid: int = 0

    @property
    def all_new(self) -> int:
        """New rows, whether or not they can be used."""
        return self.new_rows + self.quarantined


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
    pass_ = replace(
        pass_, known=read_counter is not None and total(read_counter) > 0, missing_before=max(0, -surplus)
    )
    return replace(
        pass_,
        counter=counter,
        expected=expected,
        first_reading=read_counter is None,
        thrifty=thrifty,
        counter_trusted=sure,
    )


def begin_audit(counter: str, start: datetime, *, young: bool, expected: int = 0) -> ListPass:
    """Read a list back to the start date, whatever its counter says; `young`: all of it came since then."""
    counted = total(counter) if young and UNKNOWN not in counter else None
    return ListPass(
        Cursor.around(start), None, counter=counter, counted=counted, expected=expected, known=True
    )


def begin_dated(low: datetime, habits: Habits, *, first: bool, bound: datetime | None = None) -> ListPass:
    """Begin reading a list back to `low`.

    Newest first, looking further back costs nothing: the list is asked from its newest row on, down to
    `bound` at most. In any other order only the window from `low` on is asked for.
    """
    if habits.order is Order.NEWEST and not first:
        return ListPass(Cursor(since=bound), low, newest_first=True, known=True)
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
        newest_first=False,
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
    return replace(pass_, cursor=Cursor.around(low), low=low, newest_first=False, by_date=True, parts=parts)


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
        return pass_.rows_read >= pass_.counted
    if pass_.low is None and pass_.counter and UNKNOWN not in pass_.counter:
        return pass_.rows_read >= total(pass_.counter)
    return False


def fails_behind(pass_: ListPass) -> bool:
    """Return whether the page asked next lies behind a short one, as did one that failed before."""
    failed = any(part.failures and part.cursor.behind_short for part in pass_.unread)
    return pass_.cursor.behind_short and failed


def _all_read(pass_: ListPass) -> bool:
    """Whether a list that is read whole has shown all that its counter says; then nothing is behind it.

    A row that the counter does not show yet is read for when it does.
    """
    if (
        not pass_.counter_trusted
        or pass_.low is not None
        or pass_.resumed
        or pass_.parts
        or UNKNOWN in pass_.counter
    ):
        return False
    return pass_.rows_read >= total(pass_.counter) and pass_.all_new >= pass_.expected


def _grown(pass_: ListPass, page: PassPage) -> ListPass:
    seen = page.seen
    if not pass_.pages:
        pass_ = replace(pass_, since=pass_.cursor.since, until=pass_.cursor.until)
    return replace(
        pass_,
        new_rows=pass_.new_rows + page.new_rows,
        quarantined=pass_.quarantined + page.quarantined,
        invalid=pass_.invalid + page.invalid,
        new_since_restart=pass_.new_since_restart + page.all_new,
        rows_read=pass_.rows_read + seen.count - _shown_again(pass_, seen),
        pages=pass_.pages + 1,
        newest=max(filter(None, (pass_.newest, *seen.dates)), default=None),
        unsettled=min(filter(None, (pass_.unsettled, page.unsettled)), default=None),
        reached=seen.dates[-1] if seen.dates else pass_.reached,
        last_ids_before=(),
        step=abs((seen.dates[0] - seen.dates[-1]).total_seconds()) or pass_.step
        if seen.dates
        else pass_.step,
        front=False,
        front_read=pass_.front,
    )


def _shown_again(pass_: ListPass, seen: PageRows) -> int:
    """Return how many rows of a page stood on the one before it, too."""
    return len(set(seen.ids) & {*pass_.cursor.last_ids, *pass_.last_ids_before})


def _onward(pass_: ListPass, page: PassPage, turned: NextPage, cap: int) -> tuple[ListPass, bool]:
    seen, habits, cursor = page.seen, turned.habits, turned.next or pass_.cursor
    ordered = seen.order is Order.NEWEST
    promised = pass_.hinted or 0 < pass_.expected <= pass_.all_new
    if pass_.thrifty and ordered and promised and page.all_new < seen.count:
        return replace(pass_, shallow=not pass_.low or seen.dates[-1] >= pass_.low), True
    enough = pass_.parts or pass_.all_new >= pass_.expected
    if pass_.low and ordered and seen.dates[-1] < pass_.low and enough:
        return pass_, True
    full = seen.count >= habits.full(cap)
    if pass_.newest_first and not ordered and full and len(set(seen.dates)) > 1 and pass_.low:
        return _restart(pass_, Cursor.around(pass_.low), pass_.low), False
    return replace(pass_, cursor=cursor), False


def _ended(pass_: ListPass, page: PassPage, habits: Habits) -> tuple[ListPass, bool]:
    seen, short = page.seen, _short_of_promise(pass_)
    first = pass_.first_reading and pass_.low is not None and not pass_.newest_first
    if pass_.counted is None:
        # An audit of an older parent: nobody knows how many of its rows came since the start date.
        audit = pass_.low is None and pass_.since is not None and bool(pass_.counter)
        less = (short or first or audit) and pass_.rows < (total(pass_.counter) if pass_.counter else 0)
    else:
        less = pass_.rows_read < pass_.counted
    doubtful = less or pass_.doubtful or _unreached(pass_, page, habits)
    if doubtful and seen.count and not pass_.cursor.behind_short:
        # Rows hidden after the page was cut make it look like the last one.
        cursor = replace(pass_.cursor, page=pass_.cursor.page + 1, last_ids=seen.ids, behind_short=True)
        return replace(pass_, cursor=cursor), False
    if pass_.parts:
        # What is missing may stand there.
        return pass_, True
    if short and pass_.low is not None and not pass_.newest_first:
        # The counter promised more than the window held: a row may have come with an older date.
        return _restart(pass_, Cursor(), None), False
    if short and pass_.low is None and pass_.pages > 1 and pass_.restarts == 0 and not _steady(pass_, habits):
        # A deletion while paging by number moves rows onto pages already read.
        return _restart(pass_, Cursor(), None), False
    shifted = pass_.resumed or not pass_.counter
    if shifted and pass_.pages > 1 and habits.order is Order.NONE and pass_.new_since_restart:
        return _restart(pass_, Cursor(pass_.since, pass_.until), pass_.low), False
    return pass_, True


def _unreached(pass_: ListPass, page: PassPage, habits: Habits) -> bool:
    """Return whether new rows may stand behind a short page: pages may hold fewer rows than before.

    Newest first, they do where a list whose rows are known has shown new ones only. In another order only a
    counter tells.
    """
    if not pass_.known:
        return False
    if habits.order in (Order.OLDEST, Order.NONE):
        return not pass_.counter or pass_.all_new < pass_.expected + pass_.missing_before
    seen = page.seen
    if pass_.low is not None and any(date < pass_.low for date in seen.dates):
        return False
    # What is not settled is not known either.
    young = sum(date >= page.unsettled for date in seen.dates) if page.unsettled else 0
    return page.all_new + _shown_again(pass_, seen) + young >= seen.count


def _steady(pass_: ListPass, habits: Habits) -> bool:
    """Read on by date, no row can slip past."""
    ordered = habits.order in (Order.NEWEST, Order.OLDEST)
    return pass_.by_date and ordered and (pass_.cursor.page == 0 or pass_.cursor.behind_short)


def _short_of_promise(pass_: ListPass) -> bool:
    """Return whether the counter had shown more than was found."""
    if pass_.first_reading:
        return (pass_.low is None or pass_.newest_first) and pass_.rows < total(pass_.counter)
    return pass_.all_new < pass_.expected


def _restart(pass_: ListPass, cursor: Cursor, low: datetime | None) -> ListPass:
    return replace(
        pass_,
        cursor=cursor,
        low=low,
        newest_first=False,
        rows_read=0,
        pages=0,
        new_since_restart=0,
        restarts=pass_.restarts + 1,
        reached=None,
        by_date=True,
    )


def _fits(counter: str, cap: int) -> bool:
    return UNKNOWN not in counter and total(counter) <= cap


def surplus_after(pass_: ListPass, read_counter: str | None, surplus: int) -> int:
    """Return how many rows were found that the counter has still to show.

    Below zero, how many the counter announced that were not found, or not in a form that can be used: such a
    row may have been shown half-made. It is no surplus, since nobody knows whether the counter counts it.
    """
    whole, more = _whole(pass_), pass_.rows - total(pass_.counter)
    usable = more - pass_.invalid
    if read_counter is None:
        if not whole:
            # Which rows its counter counts is not known: older ones, too.
            return -pass_.quarantined
        if usable > 0:
            # Rows read twice, in overlaps after a stop, are no surplus.
            return 0 if pass_.resumed else usable
        return 0 if UNKNOWN in pass_.counter else usable
    after = surplus - risen(pass_.counter, read_counter) + pass_.new_rows
    if not whole or pass_.resumed or UNKNOWN in pass_.counter:
        return after
    # What stands in the list itself says more than sums: a row that was announced may have been deleted.
    return max(min(after, max(0, more)), min(0, usable))


def _whole(pass_: ListPass) -> bool:
    """Return whether it read all rows of its list."""
    if pass_.shallow:
        return False
    if pass_.low is None:
        return pass_.since is None or pass_.counted is not None
    # Newest first, it would have ended behind the first row that is older.
    return (
        pass_.newest_first and pass_.since is None and (pass_.reached is None or pass_.reached >= pass_.low)
    )


def watermark_after(pass_: ListPass, before: datetime | None, now: datetime) -> datetime | None:
    """Return the newest row's date, never past `now`, never past a row that is not settled, never back.

    If a later run resumed the pass, nor past the start of the pass: in an unordered list, newer rows may be
    on a page that was already read.
    """
    started_at = pass_.started_at if pass_.resumed else None
    bounds = [moment for moment in (pass_.newest, pass_.unsettled, now, started_at) if moment]
    reached = min(bounds) if pass_.newest else None
    return max(filter(None, (before, reached)), default=None)


def lowest(start: datetime, watermark: datetime | None, lookback: timedelta) -> datetime:
    """Return how far back a pass has to read."""
    return start if watermark is None else max(start, watermark - lookback)


def resumed(pass_: ListPass, habits: Habits) -> ListPass:
    """Go on in a later run: rows have come and gone since, so pages have shifted, but dates have not."""
    cursor, by_date = pass_.cursor, pass_.by_date
    if cursor.page and not cursor.behind_short and pass_.reached:
        if habits.order is Order.NEWEST:
            cursor, by_date = Cursor(cursor.since, pass_.reached + SECOND), True
        elif habits.order is Order.OLDEST:
            cursor, by_date = Cursor(pass_.reached - SECOND, cursor.until), True
    return replace(pass_, cursor=cursor, by_date=by_date, resumed=True, last_ids_before=pass_.cursor.last_ids)


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
        new_rows=pass_.new_rows,
        quarantined=pass_.quarantined,
        invalid=pass_.invalid,
        rows_read=pass_.rows_read,
        pages=pass_.pages,
        new_since_restart=pass_.new_since_restart,
        newest=pass_.newest,
        unsettled=pass_.unsettled,
        restarts=pass_.restarts,
        first_reading=pass_.first_reading,
        resumed=True,
        thrifty=False,
        hinted=False,
        counter_trusted=False,
        since=pass_.since,
        until=pass_.until,
        front=True,
    )


def wants_front(stored: ListPass, habits: Habits, now: datetime, *, moved: bool) -> bool:
    """Return whether a list that was cut short is asked from its newest row on before it goes on.

    Not twice in a row, or a run that may send one request would never get further; nor in a list without
    order, unless something failed there or nothing was shown yet: what is new may stand anywhere in what is
    left.
    """
    if not any(part.ready(now) for part in stored.unread):
        return True
    again = any(part.failures for part in stored.unread) or not stored.rows_read
    return not stored.front_read and (again or (moved and habits.order is Order.NEWEST))


def hole(left: tuple[Part, ...], now: datetime) -> ListPass:
    """Return the pass of parts that failed, of a list that was read but for them."""
    first, *others = blocks.in_order(left, now)
    return at_part(ListPass(Cursor(), None, hole=True, resumed=True), first, tuple(others))


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
    return replace(pass_, started_at=pass_.started_at or now, front=False, front_read=False)

"""A pass over one list: how far back it has to read, when it is whole, how it is resumed; without I/O."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from connector.beamer.pagination import Cursor, Habits, NextPage, Order, PageRows, PageRules, next_page
from connector.domain.period import SECOND
from connector.sync.lists import blocks
from connector.sync.lists.blocks import Part, edge
from connector.sync.lists.counters import UNKNOWN, risen, total, waiting


class PassKind(StrEnum):
    """What a pass reads, and which of its rows were announced."""

    LIST = "list"  # a list, or a window of it: its counter announced the rows that are expected
    FIRST = "first"  # a list that was never read before: all rows that its counter shows are new
    HINTED = "hinted"  # a list of which a hint announced rows before the counter did
    FAILED_PARTS = "failed_parts"  # parts that failed, of a list that counts as read without them


class ReadBehind(StrEnum):
    """When the page behind a short one is read, besides when a count says that rows are missing."""

    NEVER = "never"
    NEW_ROWS = "new_rows"  # rows of the list are known: a page of nothing but new rows is not its last
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class PassPlan:
    """What is known before the first page, and does not change until the last one.

    `counter` is the parent's; it announced `expected` new rows, and `missing_before` that earlier passes did
    not find. Beamer counts `counted` rows between the bounds.
    """

    kind: PassKind = PassKind.LIST
    counter: str = ""
    counter_trusted: bool = False
    expected: int = 0
    missing_before: int = 0
    counted: int | None = None
    read_behind: ReadBehind = ReadBehind.NEVER


class Continued(StrEnum):
    """How a later run goes on with a pass that was cut short: rows may have moved between its pages."""

    NO = "no"  # it was not cut short
    REST = "rest"  # with what was left unread
    FRONT = "front"  # from the newest row on, and that page was not read yet
    FRONT_READ = "front_read"  # that page was read, but nothing yet of the rest


@dataclass(frozen=True, slots=True)
class PassProgress:
    """What was read so far.

    `new_rows` can be used, `quarantined` ones are new as well (the counter may have promised them), and
    `invalid` are all that cannot be used, new or not. `rows_read`, `pages` and `new_since_restart` count from
    the last of the `restarts` on. `since` and `until` are the bounds of the first page.
    `newest` is the newest date, `unsettled` the oldest one that is not settled, `reached` the last one of the
    part's last page. `last_ids_before` were on the last page of the run before, and may be shown again.
    """

    new_rows: int = 0
    quarantined: int = 0
    invalid: int = 0
    rows_read: int = 0
    pages: int = 0
    new_since_restart: int = 0
    restarts: int = 0
    started_at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    newest: datetime | None = None
    unsettled: datetime | None = None
    reached: datetime | None = None
    continued: Continued = Continued.NO
    last_ids_before: tuple[str, ...] = ()

    @property
    def all_new(self) -> int:
        """New rows, whether or not they can be used."""
        return self.new_rows + self.quarantined

    @property
    def resumed(self) -> bool:
        """Return whether an earlier run began it."""
        return self.continued is not Continued.NO


class Paging(StrEnum):
    """How the pages of a part are requested."""

    NUMBER = "number"
    DATE = "date"  # each page overlaps the one before: more pages, but no row slips past
    NEWEST_FIRST = "newest_first"  # by date, from the newest row on without a bound, as the list should come


class Depth(StrEnum):
    """How far back a part is read.

    A thrifty pass ends once all rows that the counter promised were found, newest first, with known ones
    behind them; after a hint, at the first known row. If one was another row, the counter's next change shows
    it. It was shallow if it ended before its lower bound.
    """

    FULL = "full"
    THRIFTY = "thrifty"
    SHALLOW = "shallow"


@dataclass(frozen=True, slots=True)
class ListPass:
    """One complete reading of a list, over one or several pages: its plan, and its progress.

    It reads one `part`, and then the other `parts`. It is stored between two runs (stored_pass.py).
    """

    part: Part
    plan: PassPlan = PassPlan()
    progress: PassProgress = PassProgress()
    parts: tuple[Part, ...] = ()
    paging: Paging = Paging.DATE
    depth: Depth = Depth.FULL

    @property
    def hole(self) -> bool:
        """Return whether it reads nothing but parts that failed."""
        return self.plan.kind is PassKind.FAILED_PARTS

    @property
    def rows(self) -> int:
        """Return how many rows it has read, each counted once.

        Of a list that was never read before, all rows are new: what a resumed pass shows twice is not.
        """
        progress = self.progress
        if self.plan.kind is PassKind.FIRST and progress.resumed:
            return min(progress.rows_read, progress.new_rows + progress.invalid)
        return progress.rows_read

    @property
    def unread(self) -> tuple[Part, ...]:
        """Return the part that is being read, and the others."""
        return self.part, *self.parts

    @property
    def last_ids(self) -> set[str]:
        """Return the ids of the page before, which may be shown again."""
        return {*self.part.cursor.last_ids, *self.progress.last_ids_before}


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
    hinted: bool = False,
    thrifty: bool = False,
    trusted: bool = False,
) -> ListPass:
    """Begin reading a child list; `young`: its parent is not older than `low`, so no row can be.

    A list that its counter says fits on a page is read whole: looking further back costs nothing there.
    `trusted`: its counter is.
    """
    first = read_counter is None
    if (UNKNOWN not in counter and total(counter) <= cap) or (first and young):
        pass_ = ListPass(Part(Cursor()), paging=Paging.NUMBER)
    else:
        pass_ = begin_dated(low, habits, first=False)
    plan = PassPlan(
        PassKind.FIRST if first else PassKind.HINTED if hinted else PassKind.LIST,
        counter,
        trusted,
        expected=0 if read_counter is None else waiting(counter, read_counter, surplus),
        missing_before=max(0, -surplus),
        read_behind=ReadBehind.NEW_ROWS if total(read_counter or "0") else ReadBehind.NEVER,
    )
    return replace(pass_, plan=plan, depth=Depth.THRIFTY if thrifty else Depth.FULL)


def begin_audit(counter: str, start: datetime, *, young: bool, expected: int = 0) -> ListPass:
    """Read a list back to the start date, whatever its counter says; `young`: all of it came since then."""
    counted = total(counter) if young and UNKNOWN not in counter else None
    plan = PassPlan(counter=counter, expected=expected, counted=counted, read_behind=ReadBehind.NEW_ROWS)
    return ListPass(Part(Cursor.around(start)), plan)


def begin_dated(low: datetime, habits: Habits, *, first: bool, bound: datetime | None = None) -> ListPass:
    """Begin reading a list back to `low`.

    Newest first, looking further back costs nothing: the list is asked from its newest row on, down to
    `bound` at most. In any other order only the window from `low` on is asked for.
    """
    if first:
        return ListPass(Part(Cursor.around(low), low))
    plan = PassPlan(read_behind=ReadBehind.NEW_ROWS)
    if habits.order is Order.NEWEST:
        return ListPass(Part(Cursor(since=bound), low), plan, paging=Paging.NEWEST_FIRST)
    return ListPass(Part(Cursor.around(low), low), plan)


def begin_history(
    since: datetime | None, until: datetime | None, counter: str | None, *, doubtful: bool
) -> ListPass:
    """Begin reading a list of history: a whole child list with its `counter` by page number, others by date.

    In a `doubtful` one the page behind each short page is read.
    """
    if counter is not None:
        return ListPass(Part(Cursor()), PassPlan(PassKind.FIRST, counter), paging=Paging.NUMBER)
    plan = PassPlan(read_behind=ReadBehind.ALWAYS if doubtful else ReadBehind.NEVER)
    return ListPass(Part(Cursor.around(since, until), since), plan)


def after_page(
    pass_: ListPass, page: PassPage, habits: Habits, cap: int, now: datetime | None = None
) -> PassStep:
    """Judge a page and say how the pass goes on: a part that was read to its end is followed by the next.

    One that failed comes when its wait is over `now`: in a list with news in every run, nothing else asks it.
    """
    progress = replace(pass_.progress, started_at=pass_.progress.started_at or now)
    step = _after_page(replace(pass_, progress=progress), page, habits, cap)
    parts = step.list_pass.parts
    if not step.done or pass_.hole or not parts:
        return step
    if parts[0].failures and (now is None or not parts[0].ready(now)):
        return step
    return PassStep(step.habits, at_part(step.list_pass, parts[0], parts[1:]), done=False)


def at_part(pass_: ListPass, part: Part, others: tuple[Part, ...]) -> ListPass:
    """Return the pass as it goes on with a part of the list."""
    return ListPass(part, pass_.plan, replace(pass_.progress, reached=None), others)


def beside(pass_: ListPass, parts: tuple[Part, ...]) -> ListPass:
    """Return a pass that begins at the newest row and leaves to the `parts` what they hold."""
    part, newest = pass_.part, edge(parts)
    if newest is None:
        return replace(pass_, parts=parts)
    low = max(newest, part.low or newest)
    if not any(part.failures for part in parts):
        return replace(pass_, part=replace(part, low=low), parts=parts)
    # Asked without a bound, its first page might hold the row at which the parts fail.
    part = replace(part, cursor=Cursor.around(low), low=low)
    return replace(pass_, part=part, parts=parts, paging=Paging.DATE)


def _after_page(pass_: ListPass, page: PassPage, habits: Habits, cap: int) -> PassStep:
    rules = PageRules(cap, by_date=pass_.paging is not Paging.NUMBER)
    turned = next_page(pass_.part.cursor, page.seen, habits, rules)
    if turned.repeat and turned.next is not None:
        return PassStep(turned.habits, _at(pass_, turned.next), done=False)
    grown = _grown(pass_, page)
    # Where a short page ends a list, or it is not known yet, one request behind it says so.
    if turned.next is not None and turned.habits.short_ends is False and _all_read(grown):
        return PassStep(turned.habits, grown, done=True)
    if turned.next is not None:
        return PassStep(turned.habits, *_onward(grown, page, turned, cap))
    return PassStep(turned.habits, *_ended(grown, page, turned.habits))


def _at(pass_: ListPass, cursor: Cursor) -> ListPass:
    return replace(pass_, part=replace(pass_.part, cursor=cursor))


def may_be_over(pass_: ListPass) -> bool:
    """Return whether the page that is asked next may lie behind the last one, by its number.

    Behind a full page only where rows were counted: a window that holds ten may hold more.
    """
    part, plan, rows_read = pass_.part, pass_.plan, pass_.progress.rows_read
    if not part.cursor.page or part.cursor.behind_short:
        return part.cursor.page > 0
    if plan.counted is not None:
        return rows_read >= plan.counted
    if part.low is None and plan.counter and UNKNOWN not in plan.counter:
        return rows_read >= total(plan.counter)
    return False


def fails_behind(pass_: ListPass) -> bool:
    """Return whether the page asked next lies behind a short one, as did one that failed before."""
    failed = any(part.failures and part.cursor.behind_short for part in pass_.unread)
    return pass_.part.cursor.behind_short and failed


def _all_read(pass_: ListPass) -> bool:
    """Whether a list that is read whole has shown all that its counter says; then nothing is behind it.

    A row that the counter does not show yet is read for when it does.
    """
    plan, progress = pass_.plan, pass_.progress
    sure = plan.counter_trusted and UNKNOWN not in plan.counter
    if not sure or pass_.part.low is not None or progress.resumed or pass_.parts:
        return False
    return progress.rows_read >= total(plan.counter) and progress.all_new >= plan.expected


def _grown(pass_: ListPass, page: PassPage) -> ListPass:
    seen, part, before = page.seen, pass_.part, pass_.progress
    span = abs((seen.dates[0] - seen.dates[-1]).total_seconds()) if seen.dates else 0.0
    now_read = {Continued.FRONT: Continued.FRONT_READ, Continued.FRONT_READ: Continued.REST}
    progress = replace(
        before,
        new_rows=before.new_rows + page.new_rows,
        quarantined=before.quarantined + page.quarantined,
        invalid=before.invalid + page.invalid,
        rows_read=before.rows_read + seen.count - len(pass_.last_ids.intersection(seen.ids)),
        pages=before.pages + 1,
        new_since_restart=before.new_since_restart + page.all_new,
        since=before.since if before.pages else part.cursor.since,
        until=before.until if before.pages else part.cursor.until,
        newest=max(filter(None, (before.newest, *seen.dates)), default=None),
        unsettled=min(filter(None, (before.unsettled, page.unsettled)), default=None),
        reached=seen.dates[-1] if seen.dates else before.reached,
        continued=now_read.get(before.continued, before.continued),
        last_ids_before=(),
    )
    return replace(pass_, part=replace(part, step=span or part.step), progress=progress)


def _onward(pass_: ListPass, page: PassPage, turned: NextPage, cap: int) -> tuple[ListPass, bool]:
    seen, habits, plan, low = page.seen, turned.habits, pass_.plan, pass_.part.low
    ordered, all_new = seen.order is Order.NEWEST, pass_.progress.all_new
    promised = plan.kind is PassKind.HINTED or 0 < plan.expected <= all_new
    if pass_.depth is Depth.THRIFTY and ordered and promised and page.all_new < seen.count:
        at_bound = low and seen.dates[-1] < low
        return (pass_ if at_bound else replace(pass_, depth=Depth.SHALLOW)), True
    enough = pass_.parts or all_new >= plan.expected
    if low and ordered and seen.dates[-1] < low and enough:
        return pass_, True
    full = seen.count >= habits.full(cap)
    unordered = not ordered and full and len(set(seen.dates)) > 1
    if pass_.paging is Paging.NEWEST_FIRST and unordered and low:
        return _restart(pass_, Cursor.around(low), low), False
    return _at(pass_, turned.next or pass_.part.cursor), False


def _ended(pass_: ListPass, page: PassPage, habits: Habits) -> tuple[ListPass, bool]:
    plan, part, progress, short = pass_.plan, pass_.part, pass_.progress, _short_of_promise(pass_)
    windowed = part.low is not None and pass_.paging is not Paging.NEWEST_FIRST
    if plan.counted is None:
        first = plan.kind is PassKind.FIRST and windowed
        # An audit of an older parent: nobody knows how many of its rows came since the start date.
        audit = part.low is None and progress.since is not None
        less = (short or first or audit) and pass_.rows < total(plan.counter or "0")
    else:
        less = progress.rows_read < plan.counted
    doubtful = less or plan.read_behind is ReadBehind.ALWAYS or _unreached(pass_, page, habits)
    if doubtful and page.seen.count and not part.cursor.behind_short:
        # Rows hidden after the page was cut make it look like the last one.
        number = part.cursor.page + 1
        return _at(pass_, replace(part.cursor, page=number, last_ids=page.seen.ids, behind_short=True)), False
    if pass_.parts:
        # What is missing may stand there.
        return pass_, True
    if short and windowed:
        # The counter promised more than the window held: a row may have come with an older date.
        return _restart(pass_, Cursor(), None), False
    numbered = progress.pages > 1 and progress.restarts == 0 and not _steady(pass_, habits)
    if short and part.low is None and numbered:
        # A deletion while paging by number moves rows onto pages already read.
        return _restart(pass_, Cursor(), None), False
    shifted = progress.resumed or not plan.counter
    if shifted and progress.pages > 1 and habits.order is Order.NONE and progress.new_since_restart:
        return _restart(pass_, Cursor(progress.since, progress.until), part.low), False
    return pass_, True


def _unreached(pass_: ListPass, page: PassPage, habits: Habits) -> bool:
    """Return whether new rows may stand behind a short page: pages may hold fewer rows than before.

    Newest first, they do where a list whose rows are known has shown new ones only. In another order only a
    counter tells.
    """
    plan, low, seen = pass_.plan, pass_.part.low, page.seen
    if plan.read_behind is ReadBehind.NEVER:
        return False
    if habits.order in (Order.OLDEST, Order.NONE):
        return not plan.counter or pass_.progress.all_new < plan.expected + plan.missing_before
    if low is not None and any(date < low for date in seen.dates):
        return False
    # What is not settled is not known either.
    young = sum(date >= page.unsettled for date in seen.dates) if page.unsettled else 0
    return page.all_new + len(pass_.last_ids.intersection(seen.ids)) + young >= seen.count


def _steady(pass_: ListPass, habits: Habits) -> bool:
    """Read on by date, no row can slip past."""
    ordered, cursor = habits.order in (Order.NEWEST, Order.OLDEST), pass_.part.cursor
    return pass_.paging is not Paging.NUMBER and ordered and (cursor.page == 0 or cursor.behind_short)


def _short_of_promise(pass_: ListPass) -> bool:
    """Return whether the counter had shown more than was found."""
    if pass_.plan.kind is PassKind.FIRST:
        whole = pass_.part.low is None or pass_.paging is Paging.NEWEST_FIRST
        return whole and pass_.rows < total(pass_.plan.counter)
    return pass_.progress.all_new < pass_.plan.expected


def _restart(pass_: ListPass, cursor: Cursor, low: datetime | None) -> ListPass:
    restarts = pass_.progress.restarts + 1
    progress = replace(
        pass_.progress, rows_read=0, pages=0, new_since_restart=0, restarts=restarts, reached=None
    )
    part = replace(pass_.part, cursor=cursor, low=low)
    return replace(pass_, part=part, paging=Paging.DATE, progress=progress)


def surplus_after(pass_: ListPass, read_counter: str | None, surplus: int) -> int:
    """Return how many rows were found that the counter has still to show.

    Below zero, how many the counter announced that were not found, or not in a form that can be used: such a
    row may have been shown half-made. It is no surplus, since nobody knows whether the counter counts it.
    """
    counter, progress = pass_.plan.counter, pass_.progress
    whole, more = _whole(pass_), pass_.rows - total(counter)
    usable = more - progress.invalid
    if read_counter is None:
        if not whole:
            # Which rows its counter counts is not known: older ones, too.
            return -progress.quarantined
        if usable > 0:
            # Rows read twice, in overlaps after a stop, are no surplus.
            return 0 if progress.resumed else usable
        return 0 if UNKNOWN in counter else usable
    after = surplus - risen(counter, read_counter) + progress.new_rows
    if not whole or progress.resumed or UNKNOWN in counter:
        return after
    # What stands in the list itself says more than sums: a row that was announced may have been deleted.
    return max(min(after, max(0, more)), min(0, usable))


def _whole(pass_: ListPass) -> bool:
    """Return whether it read all rows of its list."""
    low, since, reached = pass_.part.low, pass_.progress.since, pass_.progress.reached
    if pass_.depth is Depth.SHALLOW:
        return False
    if low is None:
        return since is None or pass_.plan.counted is not None
    # Newest first, it would have ended behind the first row that is older.
    return pass_.paging is Paging.NEWEST_FIRST and since is None and (reached is None or reached >= low)


def watermark_after(pass_: ListPass, before: datetime | None, now: datetime) -> datetime | None:
    """Return the newest row's date, never past `now`, never past a row that is not settled, never back.

    If a later run resumed the pass, nor past the start of the pass: in an unordered list, newer rows may be
    on a page that was already read.
    """
    progress = pass_.progress
    started_at = progress.started_at if progress.resumed else None
    bounds = [moment for moment in (progress.newest, progress.unsettled, now, started_at) if moment]
    reached = min(bounds) if progress.newest else None
    return max(filter(None, (before, reached)), default=None)


def lowest(start: datetime, watermark: datetime | None, lookback: timedelta) -> datetime:
    """Return how far back a pass has to read."""
    return start if watermark is None else max(start, watermark - lookback)


def resumed(pass_: ListPass, habits: Habits) -> ListPass:
    """Go on in a later run: rows have come and gone since, so pages have shifted, but dates have not."""
    cursor, before = pass_.part.cursor, pass_.progress
    continued = before.continued if before.resumed else Continued.REST
    pass_ = replace(pass_, progress=replace(before, continued=continued, last_ids_before=cursor.last_ids))
    if not cursor.page or cursor.behind_short or not before.reached:
        return pass_
    if habits.order is Order.NEWEST:
        cursor = Cursor(cursor.since, before.reached + SECOND)
    elif habits.order is Order.OLDEST:
        cursor = Cursor(before.reached - SECOND, cursor.until)
    else:
        return pass_
    paging = Paging.DATE if pass_.paging is Paging.NUMBER else pass_.paging
    return replace(_at(pass_, cursor), paging=paging)


def taken_up(stored: ListPass, habits: Habits, now: datetime, begun: ListPass, *, moved: bool) -> ListPass:
    """Return a pass that was cut short as a later run takes it up.

    It goes on with what was left unread, or before that (see `wants_front`) from the newest row on as does
    `begun`, which is how the list would be read if it began now.
    """
    pass_ = resumed(stored, habits)
    left = blocks.in_order(pass_.unread, now)
    if not wants_front(stored, habits, now, moved=moved):
        return at_part(pass_, left[0], left[1:]) if pass_.parts else pass_
    kind = PassKind.FIRST if stored.plan.kind is PassKind.FIRST else PassKind.LIST
    # What is counted goes on; when it began is noted anew, since the newest rows are read again.
    progress = replace(
        pass_.progress, started_at=None, reached=None, continued=Continued.FRONT, last_ids_before=()
    )
    plan = replace(begun.plan, kind=kind)
    return replace(beside(begun, left), plan=plan, progress=progress, depth=Depth.FULL)


def wants_front(stored: ListPass, habits: Habits, now: datetime, *, moved: bool) -> bool:
    """Return whether a list that was cut short is asked from its newest row on before it goes on.

    Not twice in a row, or a run that may send one request would never get further; nor in a list without
    order, unless something failed there or nothing was shown yet: what is new may stand anywhere in what is
    left.
    """
    if not any(part.ready(now) for part in stored.unread):
        return True
    if stored.progress.continued is Continued.FRONT_READ:
        return False
    again = any(part.failures for part in stored.unread) or not stored.progress.rows_read
    return again or (moved and habits.order is Order.NEWEST)


def hole(left: tuple[Part, ...], now: datetime) -> ListPass:
    """Return the pass of parts that failed, of a list that was read but for them."""
    first, *others = blocks.in_order(left, now)
    plan, progress = PassPlan(PassKind.FAILED_PARTS), PassProgress(continued=Continued.REST)
    return ListPass(first, plan, progress, tuple(others))


def given_up(pass_: ListPass, habits: Habits, now: datetime, floor: datetime, *, patient: bool) -> ListPass:
    """Return the pass after its next page failed for good: it goes on with other parts of the list.

    `floor`: nothing older is of interest; `patient`: see `blocks.failed`.
    """
    front = pass_.progress.continued is Continued.FRONT
    pass_ = resumed(pass_, habits)
    part, others = pass_.part, pass_.parts
    newest = max(others, key=lambda part: part.cursor.until or now, default=None)
    until = newest.cursor.until if newest and newest.failures else None
    if front and newest and until and (part.low is None or part.low <= until):
        # The newest rows fail like those next to them: as one part, or each run would leave one more.
        others = tuple(part for part in others if part is not newest)
        after: tuple[Part, ...] = (blocks.grown(newest, now),)
    else:
        after = blocks.failed(part, now, floor, patient=patient)
    first, *rest = blocks.in_order(blocks.joined((*after, *others)), now)
    progress = replace(pass_.progress, started_at=pass_.progress.started_at or now, continued=Continued.REST)
    return at_part(replace(pass_, progress=progress), first, tuple(rest))


def resting(pass_: ListPass, now: datetime) -> ListPass:
    """Return the pass whose part is left alone as long as before; its newest rows come next."""
    part = replace(pass_.part, failures=max(1, pass_.part.failures), failed_at=now)
    pass_ = replace(pass_, part=part)
    if pass_.hole:
        return hole(pass_.unread, now)
    if pass_.progress.continued is not Continued.FRONT_READ:
        return pass_
    return replace(pass_, progress=replace(pass_.progress, continued=Continued.REST))

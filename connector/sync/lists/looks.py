"""A look at one block of parents: what its pages prove, without I/O."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from connector.beamer.pages import Habits, Order, Place, Seen, Way, turn
from connector.sync.lists.blocks import Block

# Where a new row need not come before those that are known.
UNORDERED = (Order.NONE, Order.OLDEST)


@dataclass(frozen=True, slots=True)
class Look:
    """Where a look stands; `found` are the ids that its pages showed.

    `proving` reads the window to its end whatever the first page shows: when the list was never read to
    its far end, and from time to time to make sure.
    """

    block: Block
    place: Place
    proving: bool
    found: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LookStep:
    """What follows from a page: the look goes on, or is done (`next` is None)."""

    habits: Habits
    next: Look | None
    missing: frozenset[str] = frozenset()


def begin(block: Block, proving: bool) -> Look:
    return Look(block, Place.around(block.since, block.until), proving)


def after_page(look: Look, page: Seen, known: Collection[str], habits: Habits, cap: int) -> LookStep:
    """Judge a page of parents; `known` are all parents known before this page.

    A page with more behind it proves its window only newest first with every known id on it and no
    other: what could hide behind it is as old as its last row. A page that is not full proves it where
    such pages were seen to be the last, unless a known id is missing, or what is new may stand behind it:
    where rows are filtered after the page was cut, nine of ten known ones make a short page, too.
    """
    turned = turn(look.place, page, habits, Way(cap, by_date=True))
    if turned.next is not None and turned.repeat:
        return LookStep(turned.habits, replace(look, place=turned.next))
    look = replace(look, found=look.found | set(page.ids))
    missing = frozenset(look.block.members) - look.found
    first = look.place.page == 0 and not look.place.last
    more = page.count == cap or habits.short_ends is False
    if first and more and not look.proving and not missing and _proves(page, known, habits, cap):
        return LookStep(turned.habits, None)
    behind = look.proving or turned.habits.order in UNORDERED
    if turned.next is None and first and (missing or (page.count and behind)):
        place = replace(look.place, page=1, last=page.ids, behind_short=True)
        return LookStep(turned.habits, replace(look, place=place))
    if turned.next is None:
        return LookStep(turned.habits, None, missing)
    return LookStep(turned.habits, replace(look, place=turned.next))


def _proves(page: Seen, known: Collection[str], habits: Habits, cap: int) -> bool:
    alone = page.count < min(2, cap)
    ordered = page.order is Order.NEWEST or (alone and habits.order is Order.NEWEST)
    return ordered and all(found in known for found in page.ids)

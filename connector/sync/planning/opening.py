"""How a run begins: what it may spend, who plans it, and what it asks first; without I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.state.ledger import Balance
from connector.sync.planning import candidates
from connector.sync.planning.agenda import Agenda
from connector.sync.planning.everywhere import LookEverywhere
from connector.sync.planning.picture import Picture
from connector.sync.planning.planner import MostWorth, Planner
from connector.sync.planning.probes import Probe


def planner_for(*, limited: bool) -> Planner:
    """The plan with a monthly limit, and the one without."""
    return MostWorth() if limited else LookEverywhere()


def at_hand(balance: Balance, most: int | None) -> float | None:
    """How many requests a run may spend that was told to spend so many at most; None without either."""
    if most is None or balance.level is None:
        return balance.level if most is None else float(most)
    return min(balance.level, most)


def agenda_for(
    balance: Balance,
    started: datetime,
    *,
    before: datetime | None = None,
    reserved: float = 0.0,
    most: int | None = None,
) -> Agenda:
    """The agenda of a run that begins with this balance; the one `before` it began then."""
    per_run = 0.0
    if before and balance.per_day:
        per_run = balance.per_day * ((started - before) / timedelta(days=1))
    return Agenda(balance.drawn, balance.level, per_run=per_run, reserved=reserved, most=most)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a run would ask before it has seen a page, and how many probes it would leave for later.

    `saving`: how many requests are lacking for what is worth most, where the run would save up for it.
    """

    probes: Sequence[Probe]
    later: int
    saving: float


def rehearse(planner: Planner, picture: Picture, agenda: Agenda, now: datetime) -> Rehearsal:
    """Go through the beginning of a run without asking anybody."""
    for probe in planner.begin(picture, now):
        agenda.add(probe)
    if picture.at_hand is None:
        # With nothing to weigh, a list that waits is read when its parent's page has been.
        for waiting in candidates.waiting_children(
            picture.catalogue, picture.policy, picture.progress, picture.first_page
        ):
            agenda.add(waiting)
    probes: list[Probe] = []
    most = float("inf") if picture.at_hand is None else picture.at_hand
    while len(probes) + 1 <= most and (next_one := agenda.next(lambda _: False)):
        probes.append(next_one)
    return Rehearsal(probes, agenda.ready, agenda.saving)

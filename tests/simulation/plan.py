"""What a seed stands for: an account, its settings, the answers to the unknowns, and how much goes wrong."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from connector.sandbox import STREAMS, Company
from tests.simulation.constants import Drawn, drawn

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Where a connection is told to send to for a while.
MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Member:
    """One connection: its names and the settings that decide what is sent, in plain values."""

    name: str
    destination: str
    days: int
    streams: tuple[str, ...]
    anonymous: str = "hold"
    texts: str = "full"
    traits: str = "none"
    ref_url: str = "bare"
    team_comments: bool = False
    metrics: bool = False
    sync_event: bool = False
    lookback: timedelta = timedelta(hours=72)
    nps_settle: timedelta = timedelta(minutes=15)
    ignore_filters: bool | None = None
    first_page: int | None = None


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares from 0 to 1: of syncs, of requests, of the time between two syncs."""

    crashes: float
    overlaps: float
    beamer: float
    segment: float
    database: float
    meddling: float
    outages: int
    poison: int
    """One message in so many is refused by Segment for a while; 0 for none."""
    slow: float
    """Seconds that a request takes at the most."""


@dataclass(frozen=True, slots=True)
class Strange:
    """Answers that are strange. Shares are of requests; numbers of syncs say when something begins."""

    lists_lag: timedelta = timedelta(0)
    """By how much a child list is behind its counter."""
    foreign: float = 0.0
    """Answers of a gateway in Beamer's place: 403, 404, 401, an empty list."""
    dates: float = 0.0
    """Answers with a wrong `Date`."""
    shrinks: int | None = None
    """From this sync on, a page holds `page_share` of the rows."""
    page_share: float = 1.0
    poisons: int | None = None
    """From this sync on, every page with a certain row fails with `poison_status`."""
    poison_status: int = 500
    slow_counters: int | None = None
    """Until this sync, counters are three syncs behind their lists, and some posts are popular."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What goes wrong with the place where the database is. Numbers are of syncs."""

    faults: float = 0.0
    """The share of runs that meet a power cut, a full disk and the like."""
    backup: tuple[int, int] | None = None
    """Before which sync a backup is made, and before which other one it is put back."""
    enters_used: bool = False
    """Whether the requests that the backup lacks are entered then."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    syncs: int
    rhythm: timedelta
    company: Company
    switches: dict[str, Any]
    members: tuple[Member, ...]
    monthly: int | None
    reserve: int
    period_day: int | None
    ahead: timedelta
    """How far the connector's clock is ahead of Beamer's."""
    step: timedelta
    """By how much that clock is set once, in the middle of its life."""
    wrong_clock: tuple[int, timedelta] | None
    """In every so-manieth sync that clock is off by so much besides, and right again behind it."""
    troubles: Faults
    strange: Strange = Strange()
    happenings: float = 0.3
    sure: tuple[int, int] | None = None
    """The numbers of two syncs: in the one somebody dies for sure, in the other two runs overlap."""
    moves: tuple[int, int] | None = None
    """From which sync until which other one the first connection sends elsewhere."""
    elsewhere: int = 0
    """Requests that other tools spend between two syncs, at the most."""
    large: bool = field(default=False)
    webhooks: dict[str, Any] | None = None
    """What may happen to webhooks on their way; None: there are none."""
    drawn: Drawn = field(default_factory=Drawn)
    storage: Storage = Storage()

    @property
    def behind(self) -> bool:
        """Whether the connector's clock is ever behind Beamer's."""
        return bool(self.wrong_clock) or min(self.ahead, self.step) < timedelta(0)


def plan(seed: int) -> Plan:
    """Draw everything about one life."""
    rng = Random(f"{seed}/plan")
    large = rng.random() < 0.03
    monthly = rng.choice((None, None, None, 300, 700, 2_000))
    syncs = rng.randint(25, 27)
    strange = _strange(Random(f"{seed}/strange"), syncs)
    return Plan(
        seed=seed,
        syncs=syncs,
        rhythm=rng.choice((0.5, 2, 4, 6, 6, 12, 24)) * HOUR,
        company=_company(rng, large),
        switches=_switches(rng),
        members=_members(rng),
        monthly=monthly,
        reserve=rng.choice((0, 15)) if monthly else 0,
        period_day=rng.choice((None, None, 1, 17, 31)) if monthly else None,
        ahead=timedelta(seconds=rng.choice((0, 0, 0, 1, -7, 90, 600, -600))),
        step=rng.choice((0, 0, 0, 0, -1, 1, 24)) * HOUR,
        # With both clocks wrong nothing tells the time.
        wrong_clock=None if strange.dates else _wrong_clock(Random(f"{seed}/wrong clock")),
        troubles=_troubles(rng),
        strange=replace(
            strange, slow_counters=_slow_counters(Random(f"{seed}/slow counters"), strange, syncs)
        ),
        happenings=rng.choice((0.1, 0.3, 0.6)),
        sure=(rng.randrange(syncs), rng.randrange(syncs)) if rng.random() < 0.6 else None,
        moves=(first := rng.randrange(2, syncs), first + rng.randint(1, 6)) if rng.random() < 0.2 else None,
        elsewhere=rng.choice((0, 0, 3)) if monthly else 0,
        large=large,
        webhooks=_webhooks(Random(f"{seed}/webhooks")),
        drawn=drawn(Random(f"{seed}/constants")),
        storage=_storage(Random(f"{seed}/storage"), syncs),
    )


def _storage(rng: Random, syncs: int) -> Storage:
    """In a quarter of the lives something goes wrong with it; in half of these a backup is put back."""
    if rng.random() >= 0.25:
        return Storage()
    made = rng.choice((0, rng.randrange(1, syncs - 1), rng.randrange(1, syncs - 1)))
    put_back = min(syncs - 1, made + rng.choice((1, 2, 5, 10)))
    return Storage(
        faults=rng.choice((0.1, 0.2, 0.4)),
        backup=(made, put_back) if rng.random() < 0.5 else None,
        enters_used=rng.random() < 0.5,
    )


def _slow_counters(rng: Random, strange: Strange, syncs: int) -> int | None:
    """Lists that are behind as well would show no row before its counter."""
    slow = rng.random() < 0.12 and not strange.lists_lag
    return rng.randrange(syncs // 3, syncs) if slow else None


def _webhooks(rng: Random) -> dict[str, Any] | None:
    """In half of the lives there are some; in a fifth of those all of them are lost, forged or doubled."""
    if rng.random() < 0.5:
        return None
    kinds = ("lost", "doubled", "false", "retitled")
    shares = {kind: rng.choice((0.0, 0.1, 0.5)) for kind in kinds}
    if rng.random() < 0.2:
        shares[rng.choice(kinds)] = 1.0
    delay = rng.choice((0, 0, 1, 60, 600)) * timedelta(minutes=1)
    return {**shares, "delay": delay, "row_ids": rng.random() < 0.7}


def _wrong_clock(rng: Random) -> tuple[int, timedelta] | None:
    if rng.random() < 0.7:
        return None
    days = rng.choice((-40, -32, -8, -1, 1, 8, 32, 40, 200))
    return rng.randint(2, 6), days * DAY + rng.choice((0, 3, -3)) * HOUR


def _company(rng: Random, large: bool) -> Company:
    busy = 2.0 if large else 1.0
    return Company(
        seed=rng.randrange(10**6),
        posts=int(busy * rng.choice((0, 2, 4, 9, 10, 10))),
        requests=int(busy * rng.choice((0, 1, 3, 9, 10))),
        days=rng.randint(15, 45),
        activity=busy * rng.choice((0.05, 0.1, 0.15, 0.2)),
        posts_per_day=rng.choice((0.2, 0.8)),
        requests_per_day=rng.choice((0.2, 0.8)),
        nps_per_day=rng.choice((0.0, 2.0, 8.0)),
        people=25,
        late=rng.choice((0.0, 0.0, 0.1)),
        deletions=rng.choice((0.0, 0.0, 0.05)),
        hidden=rng.choice((0.0, 0.0, 0.0, 0.1)),
    )


def _switches(rng: Random) -> dict[str, Any]:
    """Half of the seeds keep what is most likely; in the others each unknown may turn out either way."""
    if rng.random() < 0.3:
        return {}
    order = rng.choice(("newest", "newest", "oldest", "unordered"))
    often = rng.choice((0.1, 0.3))

    def either(usual: Any, *others: Any) -> Any:
        return rng.choice(others) if rng.random() < often else usual

    return {
        "first_page": either(0, 1),
        "order": order,
        "pinned_first": either(False, True),
        "date_from_inclusive": either(True, False),
        "date_to_inclusive": either(True, False),
        "counters_lag": either(timedelta(0), timedelta(minutes=40), timedelta(hours=5)),
        "counters_ignore_deletions": either(False, True),
        "filters_after_page": either(False, True),
        "unfiltered_count": either(False, True),
        "native_types": either(False, True),
        "nps_text_later": either(False, True),
        "ignore_filters_allowed": either(True, False),
        "errors_count": either(True, False),
        "billing_day": either(1, 17, 28),
        "may_read": either(STREAMS, *(_without(name) for name in ("nps", "comments", "feature_requests"))),
    }


def _without(name: str) -> tuple[str, ...]:
    return tuple(stream for stream in STREAMS if stream != name)


def _members(rng: Random) -> tuple[Member, ...]:
    first = _member(rng, "default", "dest")
    if rng.random() < 0.2:
        return first, _member(rng, "second", "other")
    return (first,)


def _member(rng: Random, name: str, destination: str) -> Member:
    streams: tuple[str, ...] = STREAMS
    if rng.random() < 0.25:
        streams = tuple(rng.sample(STREAMS, rng.randint(1, 6)))
    usual = rng.random() < 0.4
    return Member(
        name=name,
        destination=destination,
        days=rng.choice((3, 10, 30)),
        streams=streams,
        anonymous="hold" if usual else rng.choice(("hold", "shared", "send")),
        texts="full" if usual else rng.choice(("full", "short", "none")),
        traits="none" if usual else rng.choice(("none", "email", "all")),
        ref_url="bare" if usual else rng.choice(("bare", "full")),
        team_comments=not usual and rng.random() < 0.3,
        metrics=not usual and rng.random() < 0.3,
        sync_event=not usual and rng.random() < 0.2,
        lookback=rng.choice((0, 0, 1, 6, 24, 72, 72)) * HOUR,
        nps_settle=rng.choice((0, 15, 15, 60)) * timedelta(minutes=1),
        ignore_filters=None if usual else rng.choice((None, None, False)),
    )


def _troubles(rng: Random) -> Faults:
    calm = rng.random() < 0.3
    return Faults(
        crashes=rng.choice((0.0, 0.1, 0.2, 0.3)),
        overlaps=rng.choice((0.0, 0.1, 0.15, 0.2)),
        beamer=0.0 if calm else rng.choice((0.0, 0.02, 0.1)),
        segment=0.0 if calm else rng.choice((0.0, 0.1, 0.3)),
        database=0.0 if calm else rng.choice((0.0, 0.0, 0.003)),
        meddling=0.0 if calm else rng.choice((0.0, 0.02, 0.1)),
        outages=0 if calm else rng.choice((0, 0, 1, 2)),
        poison=0 if calm else rng.choice((0, 0, 9, 40)),
        slow=rng.choice((0.0, 0.4, 3.0, 12.0)),
    )


def _strange(rng: Random, syncs: int) -> Strange:
    """Half of the lives see none of it; in the others each kind of strange answer may come."""
    if rng.random() < 0.5:
        return Strange()

    def sometimes(usual: Any, *others: Any) -> Any:
        return rng.choice(others) if rng.random() < 0.35 else usual

    return Strange(
        lists_lag=sometimes(timedelta(0), timedelta(minutes=2), timedelta(minutes=40), 3 * HOUR, 20 * HOUR),
        foreign=sometimes(0.0, 0.02, 0.1),
        dates=sometimes(0.0, 0.02, 0.2),
        shrinks=sometimes(None, *range(2, syncs)),
        page_share=rng.choice((0.1, 0.3, 0.6)),
        poisons=sometimes(None, 0, 0, 0, rng.randrange(2, syncs // 2)),
        poison_status=rng.choice((500, 500, 400, 404)),
    )

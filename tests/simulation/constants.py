"""What the connector keeps to and hardly anybody sets: in some lives it is drawn, also where it is absurd."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

from connector.beamer.streams import CATALOGUE, Stream
from connector.sync.context import Constants

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
# How many lives keep to other constants than the connector's, and how many of these a life draws.
SHARE, OFTEN = 1 / 3, 0.4


@dataclass(frozen=True, slots=True)
class Drawn:
    """One life's constants; without arguments, those of every day.

    `page`: the most rows of a page of a child list or of nps; None: as many as Beamer gives. `threads`: how
    many requests are sent at once, drawn for each process. `timeout`: how long nobody answers before a
    request is given up.
    """

    constants: Constants = field(default_factory=Constants)
    page: int | None = None
    threads: tuple[int, int, int] = (1, 3, 6)
    per_second: int = 30
    startup: float = 0.1
    events_per_second: int | None = None
    most_waiting: int = 100_000
    most_bytes: int = 200_000_000
    max_age: timedelta = 7 * DAY
    hint_share: float = 0.5
    timeout: timedelta = 15 * SECOND

    @property
    def absurd(self) -> bool:
        """Whether anything is not as it is every day."""
        return self != Drawn()

    @property
    def patient(self) -> "Drawn":
        """The same, without what keeps a run from reading all there is."""
        return replace(
            self,
            constants=replace(self.constants, most_pages=Constants().most_pages),
            most_waiting=100_000,
            most_bytes=200_000_000,
        )

    @property
    def catalogue(self) -> Mapping[str, Stream]:
        """Return the streams, with pages of that size where no counter depends on it."""
        if self.page is None:
            return CATALOGUE
        # A block of ten parents is read by one page.
        return {
            name: replace(stream, cap=self.page) if stream.parent or name == "nps" else stream
            for name, stream in CATALOGUE.items()
        }


def drawn(rng: Random) -> Drawn:
    """Draw a life's constants."""
    if rng.random() >= SHARE:
        return Drawn()

    def sometimes(usual: Any, *others: Any) -> Any:
        other = rng.choice(others)
        return other if rng.random() < OFTEN else usual

    # Single messages and single rows make a life several times as long: seldom.
    single = rng.random() < 0.15
    usual = Drawn()
    constants = usual.constants
    return Drawn(
        Constants(
            batch=sometimes(constants.batch, *((1, 2) if single else (7, 33, 250))),
            batch_bytes=sometimes(constants.batch_bytes, *((1,) if single else (4_000, 40_000))),
            double_after=sometimes(constants.double_after, timedelta(0), SECOND, HOUR, 6 * HOUR),
            # A longer one would be taken for one from before a clock was set back.
            lease=sometimes(constants.lease, SECOND, 2 * SECOND, 10 * SECOND),
            retention=sometimes(constants.retention, DAY, 3 * DAY, 400 * DAY),
            # Only a second page shows that most lists have ended.
            most_pages=sometimes(constants.most_pages, 2, 3, 7),
        ),
        # Three rows are often in order by chance, and what is believed of the order of all lists.
        page=sometimes(None, *((1,) if single else (6, 8))),
        threads=sometimes(usual.threads, (1, 1, 1), (2, 2, 2), (16, 16, 40)),
        per_second=sometimes(usual.per_second, 1, 3),
        startup=sometimes(usual.startup, 0.0, 0.01, 1.0),
        events_per_second=sometimes(None, 1, 20, 1_000),
        most_waiting=sometimes(usual.most_waiting, 0, 1, 30),
        most_bytes=sometimes(usual.most_bytes, 1, 5_000),
        max_age=sometimes(usual.max_age, timedelta(0), HOUR, 365 * DAY),
        hint_share=sometimes(usual.hint_share, 0.0, 0.01, 1.0),
        timeout=sometimes(usual.timeout, timedelta(0), SECOND, 600 * SECOND),
    )

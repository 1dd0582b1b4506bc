"""Lives in which Segment loses messages after its 200: `verify` names their hours, and brings them."""

import re
import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connector.beamer.streams import CATALOGUE
from connector.errors import Busy
from connector.reporting.proof import STREAM_OF, Proof, prove
from connector.sandbox import Company
from connector.segment.client import SegmentClient
from connector.segment.public_api import PublicApi
from connector.state import connections
from connector.state.backfills import Range
from connector.state.connections import ApiKeys, Credential, key_digest
from connector.state.deliveries import start_of_hour
from connector.sync.backfill.run import BackfillOrder, BackfillRun, judging
from connector.sync.context import RunContext
from connector.sync.run import Run
from tests.harness import ID, Rig, sandbox

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SEEDS = range(12)


class Death(BaseException):
    """The process ends where it stands."""


class Life:
    """Syncs over days, some killed between Segment's answer and its confirmation, some with lossy hours."""

    def __init__(self, seed: int, url: str) -> None:
        self.rng = Random(f"{seed}/proof")
        company = Company(
            seed=seed, posts=15, requests=6, days=40, activity=0.6, nps_per_day=6.0, deletions=0.0
        )
        self.box = sandbox(company=company)
        self.rig = Rig(self.box, url)
        self.lossy = False
        # When each lost message was lost last, by its id.
        self.lost: dict[str, tuple[str, datetime]] = {}
        self.box.segment.loses = self._loses

    def _loses(self, message: dict[str, Any]) -> bool:
        loses = self.lossy and self.rng.random() < 0.5
        if loses:
            self.lost[message["messageId"]] = message["event"], start_of_hour(self.box.now())
        return loses

    def _post(self, *args: Any, **options: Any) -> Any:
        answer = self.box.segment_post(*args, **options)
        chance = self.rng.random()
        if chance < 0.05:
            raise Death
        if chance < 0.15:
            # It arrived, and nobody heard of it: the run sends it again.
            raise TimeoutError
        return answer

    def context(self) -> RunContext:
        rig = self.rig
        api_keys: ApiKeys = {"segment": Credential(key_digest(self.box.write_key), "https://segment.test")}
        context = rig.context()
        change = connections.compare_keys(
            rig.database, context.identity.name, context.identity.destination, api_keys
        )
        segment = SegmentClient(self.box.write_key, "http://127.0.0.1:1", post=self._post)
        return replace(context, api_keys=api_keys, change=change, segment=segment)

    def run(self, do: Callable[[RunContext], Any]) -> None:
        """Run it until it ends, over deaths."""
        while True:
            with suppress(Death, Busy):
                do(self.context())
                return
            # The lease of the dead one expires.
            self.box.advance(timedelta(minutes=3))

    def live(self) -> None:
        for _ in range(40):
            self.box.advance(timedelta(minutes=self.rng.choice((7, 30, 60, 200))))
            self.lossy = self.rng.random() < 0.4
            self.run(lambda context: Run(context).go())
        self.lossy = False
        self.box.advance(DAY)
        self.run(lambda context: Run(context).go())
        # The last hours' counts are complete.
        self.box.advance(2 * DAY)

    def backfill(self, command: str) -> None:
        """Do what `beamer-segment backfill` does with these words."""
        words = shlex.split(command)
        given = dict(pairwise(words))
        since, until = (datetime.fromisoformat(f"{given[name]}+00:00") for name in ("--since", "--until"))
        assert "--resend" in words

        def bring(context: RunContext) -> None:
            wanted = Range(since, until, (given["--stream"],), judging(context.policy), resend=True)
            names = {given["--stream"], CATALOGUE[given["--stream"]].parent}
            streams = {name: stream for name, stream in CATALOGUE.items() if name in names}
            outcome, _ = BackfillRun(
                replace(context, catalogue=streams), BackfillOrder(wanted, again=True)
            ).go()
            assert outcome.exit == 0

        self.run(bring)

    def verified(self) -> Proof:
        api = self.box.segment.public_api
        with (
            self.box.serve() as served,
            closing(PublicApi(api.token, served.segment_url, self.rig.clock)) as client,
        ):
            return prove(self.rig.database, client, "default", self.box.write_key, None, self.box.now())

    @property
    def ids_of_rows(self) -> Counter[tuple[str, str]]:
        """How many messageIds there are of each row."""
        rows = {
            (message["event"], message["properties"][ID[message["event"]]], message["messageId"])
            for message in self.box.segment.messages
            if message["event"] in ID
        }
        return Counter((event, row) for event, row, _ in rows)

    @property
    def gone(self) -> Counter[tuple[str, datetime]]:
        """How many messages never arrived, by event and the hour in which they were lost."""
        there = {message["messageId"] for message in self.box.segment.messages}
        return Counter(where for message_id, where in self.lost.items() if message_id not in there)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_what_was_lost_is_reported_and_brought(tmp_path: Path, seed: int) -> None:
    life = Life(seed, f"sqlite:///{tmp_path / 'state.sqlite'}")
    life.live()
    due = life.gone
    assert due
    proof = life.verified()
    assert Counter({(row.event, row.hour): row.lost for row in proof.rows if row.lost}) == due
    before = len(life.box.segment.messages)
    for problem in proof.problems:
        [command] = re.findall("`(beamer-segment backfill .*)`", problem.todo) or [None]
        if command:
            life.backfill(command)
    left = {where: count for where, count in life.gone.items() if where[0] in STREAM_OF}
    assert left == {}
    assert len(life.box.segment.messages) > before
    # A warehouse keeps each messageId once; Segment itself forgets them after a day.
    assert set(life.ids_of_rows.values()) == {1}
    # Once its counts are there, nothing is reported any more but what cannot be sent again.
    life.box.advance(2 * DAY)
    again = Counter({(row.event, row.hour): row.lost for row in life.verified().rows if row.lost})
    assert again == life.gone
    life.rig.close()

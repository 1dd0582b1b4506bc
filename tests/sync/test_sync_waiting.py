"""On a small quota: how long a row waits that a counter has shown."""

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from connector.domain.budget import Limits
from tests import harness
from tests.benchmarks import quota_month
from tests.benchmarks.quota_accounts import ACCOUNTS, Account
from tests.sandbox import Sandbox

DAY = timedelta(days=1)
LISTS = {"posts": "posts", "requests": "feature_requests"}


class Shown(httpx.BaseTransport):
    """The way to a sandbox; keeps when each post and request was shown with its counters: epoch seconds."""

    def __init__(self, box: Sandbox) -> None:
        self._box, self._inner = box, box.beamer_transport()
        self.at: dict[tuple[str, str], list[float]] = defaultdict(list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._inner.handle_request(request)
        if (found := re.search(r"/(posts|requests)$", request.url.path)) and answer.status_code == 200:
            for row in json.loads(answer.read()):
                self.at[LISTS[found[1]], str(row["id"])].append(self._box.now().timestamp())
        return answer


@dataclass(frozen=True)
class WithStartup(Account):
    """An account of which so much of the month may be spent at once."""

    share: float = 0.0

    @property
    def limits(self) -> Limits:
        return replace(super().limits, startup=self.share)


def waits(month: quota_month.Month, shown: Shown) -> Iterator[timedelta]:
    """Of each row that a counter showed after its list was first seen: how long it waited from then on.

    What a list held when an older post was first seen is history, and has no such promise.
    """
    arrived, end = month._arrived(), (month.since + month.length).timestamp()
    for key, row in harness.expected(month.sandbox, month.rig.start).items():
        if row.parent is None or not month.since.timestamp() <= row.appears_s < end:
            continue
        checks = shown.at[row.parent.stream, row.parent.id]
        cursor = bisect_left(checks, row.appears_s)
        if cursor < len(checks) and (cursor or row.parent.date > month.since):
            until = arrived[key].timestamp() if key in arrived else end
            yield timedelta(seconds=until - checks[cursor])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("name", ["Free 60+30 busy", "Free 300+100"])
def test_no_row_that_a_counter_showed_waits_much_longer_than_max_age(
    tmp_path: Path, name: str, share: float
) -> None:
    """In a month on 1,000 requests; without a start-up allowance one had waited 567 hours."""
    usual = ACCOUNTS[name]
    account = WithStartup(**{each: getattr(usual, each) for each in usual.__dataclass_fields__}, share=share)
    month = quota_month.Month(account, 1, lambda _: None, tmp_path)
    shown = month.rig.transport = Shown(month.sandbox)
    month.go()
    found = sorted(waits(month, shown))
    assert len(found) > 100
    assert found[-1] <= 7 * DAY + DAY, "max_age, and as long as the lists ahead of it take"
    assert quota_month.most_within(month.asked(), quota_month.MONTH) <= 1_000
    month.close()

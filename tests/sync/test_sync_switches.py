"""The connector works unchanged under each switch of the sandbox's unknowns."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Company, Switches
from tests.harness import Rig, expected, hold_still, idle_cost, landed, sandbox
from tests.sandbox import Sandbox

SWITCHES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "first page 1": {"first_page": 1},
    "oldest first": {"order": "oldest"},
    "unordered": {"order": "unordered"},
    "pinned first": {"pinned_first": True},
    "dateFrom exclusive": {"date_from_inclusive": False},
    "dateTo exclusive": {"date_to_inclusive": False},
    "counters lag": {"counters_lag": timedelta(hours=6)},
    "counters ignore deletions": {"counters_ignore_deletions": True},
    "filters after the page": {"filters_after_page": True},
    "filters after the page, without permission": {
        "filters_after_page": True,
        "ignore_filters_allowed": False,
    },
    "without permission": {"ignore_filters_allowed": False},
    "counts unfiltered": {"unfiltered_count": True},
    "native types": {"native_types": True},
    "NPS text later": {"nps_text_later": True},
    "oldest, from 1, exclusive, lagging": {
        "order": "oldest",
        "first_page": 1,
        "date_from_inclusive": False,
        "date_to_inclusive": False,
        "counters_lag": timedelta(minutes=30),
    },
    "unordered, from 1, filters after the page, pinned, native": {
        "order": "unordered",
        "first_page": 1,
        "filters_after_page": True,
        "pinned_first": True,
        "native_types": True,
    },
    "from 1, pinned, filters after the page without permission, lagging": {
        "first_page": 1,
        "pinned_first": True,
        "filters_after_page": True,
        "ignore_filters_allowed": False,
        "counters_lag": timedelta(hours=2),
    },
}
SETTLED = timedelta(minutes=20)


def company(seed: int, **others: Any) -> Company:
    usual: dict[str, Any] = {"posts": 14, "requests": 11, "days": 40, "activity": 0.2, "late": 0.1}
    return Company(seed=seed, **{**usual, "deletions": 0.0, "nps_per_day": 6.0, **others})


class Life:
    """A connection and its account over some days; after each sync the warehouse is compared."""

    def __init__(self, url: str, seed: int, switches: dict[str, Any], **others: Any) -> None:
        self.sandbox = sandbox(company=company(seed, **others), switches=Switches(**switches))
        self.rig = Rig(self.sandbox, url)
        self.segmented = bool(switches.get("ignore_filters_allowed", True))
        self.lag: timedelta = switches.get("counters_lag", timedelta(0))

    def sync(self) -> int:
        outcome = self.rig.sync()
        assert (outcome.exit, outcome.report.troubles) == (0, [])
        found = landed(self.sandbox)
        assert set(found.values()) <= {1}
        assert not self.due() - set(found)
        ever = expected(self.sandbox, self.rig.start, deleted=True, segmented=self.segmented)
        assert not set(found) - set(ever)
        return outcome.report.requests_spent

    def due(self) -> set[tuple[str, str]]:
        """What must have landed: rows of a counter that lags, and answers being typed, may come later."""
        now = self.sandbox.now()
        rows = expected(self.sandbox, self.rig.start, segmented=self.segmented)
        if self.lag:
            rows = {name: row for name, row in rows.items() if row.appears < now - self.lag}
        typing = {name for name, row in rows.items() if row.stream == "nps" and row.date > now - SETTLED}
        return self.forgiven(set(rows) - typing)

    def forgiven(self, names: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """A deletion and an addition between two checks cancel out in the counter: that is the audit's."""
        rows = expected(self.sandbox, self.rig.start, segmented=self.segmented)
        every = [row for name in ("comments", "reactions") for row in self.sandbox.world.rows(name)]
        every += self.sandbox.world.rows("feature_request_votes")
        every += self.sandbox.world.rows("feature_request_comments")
        cut = {(row.stream, row.parent_id) for row in every if row.deleted_at}
        return {name for name in names if (rows[name].stream, rows[name].parent_id) not in cut}

    def go_on(self, hours: float) -> None:
        self.sandbox.advance(timedelta(hours=hours))

    def be_still(self) -> None:
        hold_still(self.sandbox)
        self.sandbox.advance(self.lag + SETTLED)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state.sqlite'}"


def live(life: Life, switches: dict[str, Any]) -> None:
    """First sync, some hours, some days, and then nothing new."""
    life.sync()
    life.go_on(5)
    second = life.sync()
    life.go_on(50)
    life.sync()
    life.be_still()
    life.sync()
    before = len(life.sandbox.segment.received)
    third = life.sync()
    assert len(life.sandbox.segment.received) == before
    idle = idle_cost(life.sandbox, segmented=life.segmented)
    if switches.get("order", "newest") == "newest" and not switches.get("filters_after_page"):
        assert third == idle
    elif switches.get("filters_after_page"):
        assert third <= 3 * idle
    else:
        # Behind each page is looked once more, and twice where it is not known yet that counting starts at 1;
        # NPS, which has no counter, is looked at behind a short page, too.
        assert third <= 2 * idle + 3
    # A list whose counter counts a row that it does not show is read once more for it, and looked behind.
    # Where the newest rows need not stand in front, each page that an idle sync asks for is, too.
    pages = 6 if switches.get("order", "newest") == "newest" else 7
    assert second <= pages * idle + 2 * lists_with_hidden_rows(life.sandbox)
    life.rig.close()


def lists_with_hidden_rows(box: Sandbox) -> int:
    """How many child lists hold a row that no answer shows."""
    streams = ("comments", "reactions", "feature_request_comments", "feature_request_votes")
    return len(
        {(row.stream, row.parent_id) for name in streams for row in box.world.rows(name) if row.hidden}
    )


@pytest.mark.parametrize("switch", SWITCHES)
def test_three_syncs_send_each_row_once(url: str, switch: str) -> None:
    live(Life(url, 3, SWITCHES[switch]), SWITCHES[switch])


@pytest.mark.parametrize("switch", ["the defaults", "oldest, from 1, exclusive, lagging"])
def test_the_same_on_postgresql(postgres_url: str, switch: str) -> None:
    live(Life(postgres_url, 5, SWITCHES[switch]), SWITCHES[switch])


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["the defaults", "counters ignore deletions", "unordered"])
def test_rows_that_go_take_no_others_with_them(url: str, switch: str) -> None:
    live(Life(url, 4, SWITCHES[switch], deletions=0.1), SWITCHES[switch])


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["the defaults", "filters after the page", "oldest first"])
def test_rows_that_no_list_shows_hide_no_others(url: str, switch: str) -> None:
    live(Life(url, 1, SWITCHES[switch], hidden=0.2), SWITCHES[switch])


def test_a_text_that_comes_later_is_sent_with_its_answer(url: str) -> None:
    life = Life(url, 6, {"nps_text_later": True}, posts=0, requests=0, nps_per_day=150.0)
    for _ in range(12):
        life.go_on(0.2)
        life.sync()
    life.be_still()
    life.sync()
    told = {
        message["properties"]["nps_id"]: message["properties"]["comment"]
        for message in life.sandbox.segment.messages
        if message["event"] == "NPS Response Sent"
    }
    rows = {row.id: row.fields["feedback"] or None for row in life.sandbox.world.rows("nps")}
    assert told
    assert told == {name: rows[name] for name in told}
    life.rig.close()


def test_a_lagging_counters_rows_arrive_after_the_lag_at_the_latest(url: str) -> None:
    life = Life(url, 8, {"counters_lag": timedelta(hours=3)}, activity=1.0, late=0.0)
    for _ in range(8):
        life.go_on(1)
        life.sync()  # compares with all that is older than the lag
    life.rig.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [21, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(22, 26))]
)
@pytest.mark.parametrize("switch", SWITCHES)
def test_many_accounts(url: str, switch: str, seed: int) -> None:
    others = {"deletions": 0.03 * (seed % 3), "hidden": 0.1 * (seed % 2), "activity": 0.3 + 0.1 * (seed % 4)}
    live(Life(url, seed, SWITCHES[switch], **others), SWITCHES[switch])

"""Several processes on one Beamer account keep its rate together."""

from collections import Counter

import pytest

from connector.sandbox import Company
from tests.cli.accounts import accounts
from tests.cli.conftest import Make
from tests.cli.process import made_up

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_keep_the_rate(make: Make, database_url: str, processes: int) -> None:
    names = [f"c{number}" for number in range(processes)]
    company = Company(posts=40, requests=20, days=60, activity=0.4, nps_per_day=1.0)
    machine = accounts(make, names, account="shared", sandbox=made_up(company), database_url=database_url)
    machine.extra["BEAMER_REQUESTS_PER_SECOND"] = "30"
    machine.sandbox.switches.rate_limit = 30
    running = [machine.begin("sync", "--connection", name) for name in names]
    ended = [each.end() for each in running]
    assert [each.code for each in ended] == [0] * processes, [each.err for each in ended]
    seen = Counter(each.status for each in machine.sandbox.requests if each.api == "beamer")
    assert seen.keys() <= {200, 429}
    # A busy machine may hold a request up until others are due. Without a common rate, a third is refused.
    assert seen[429] <= 0.04 * seen.total()
    assert seen[200] > 40 * processes

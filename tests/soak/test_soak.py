"""A minute of the soak, and of many connections shared by two processes."""

from pathlib import Path

import pytest

from tests.soak.many import many
from tests.soak.soak import soak


@pytest.mark.slow
def test_an_hour_of_life_in_a_minute(tmp_path: Path) -> None:
    result = soak(hours=1, minutes=1, folder=tmp_path)
    assert result.wrong == []
    assert result.syncs > 10
    assert result.requests > 300


@pytest.mark.slow
def test_many_connections_are_shared_by_two_processes(tmp_path: Path, postgres_url: str) -> None:
    seen = many(postgres_url, tmp_path, connections=16, minutes=1.6, processes=2, interval="1m")
    assert seen.wrong == []
    assert len(seen.first) == 16
    # Both did some of it, and everything came round a second time.
    assert min(seen.syncs) > 0
    assert sum(seen.syncs) >= 32

"""`kill -9` at moments spread between a sync's first request and its exit; `make kills` has a hundred."""

from pathlib import Path

import pytest

from tests.stress.kills import kills

MOMENTS = 30


@pytest.mark.slow
@pytest.mark.long
def test_kills_lose_nothing_and_double_nothing(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = kills(tmp_path, database_url, MOMENTS)
    with capsys.disabled():
        print(f"\n{database_url.partition(':')[0]}: {found.histogram()}")  # noqa: T201
    assert found.stages.total() >= MOMENTS
    assert found.enough, found.histogram()

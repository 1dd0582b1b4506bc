"""A connection's shard: the same on every machine, whatever else is configured."""

from collections import Counter

import pytest

from connector.config import Shard


def test_it_stays_the_same_for_ever() -> None:
    """Were one of these to change, an upgrade would move connections between shards."""
    shards = {"default": 4, "us": 4, "eu": 3, "acme": 2}
    assert all(
        Shard(index, 5).holds(name) == (index == shards[name]) for name in shards for index in range(5)
    )


def test_all_shards_together_hold_each_once_and_evenly() -> None:
    names = [f"account.{number}" for number in range(1_000)]
    held = Counter(name for index in range(7) for name in names if Shard(index, 7).holds(name))
    assert set(held.values()) == {1}
    assert len(held) == len(names)
    sizes = [sum(Shard(index, 7).holds(name) for name in names) for index in range(7)]
    assert min(sizes) > 100


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "a/b", "0/1/2", "9" * 30 + "/" + "9" * 31])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"INDEX/COUNT|from 0"):
        Shard.parse(text)


def test_the_form_that_kubernetes_gives() -> None:
    assert Shard.parse("4/5") == Shard(4, 5)
    assert Shard.parse("0/1").holds("anything")

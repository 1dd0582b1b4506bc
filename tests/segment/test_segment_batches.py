import json

from hypothesis import given
from hypothesis import strategies as st

from connector.segment.messages import ENVELOPE, MOST_BYTES, MOST_MESSAGES, SEPARATOR, into_batches


def size(item: int) -> int:
    return item


def test_by_count() -> None:
    assert [len(batch) for batch in into_batches([1] * 250, size)] == [100, 100, 50]


def test_by_bytes_with_separators() -> None:
    assert into_batches([4, 4, 4], size, limit=10) == [[4, 4], [4]]
    assert into_batches([4, 5], size, limit=10) == [[4], [5]]


def test_nothing_is_no_batch() -> None:
    assert into_batches([], size) == []


def test_one_that_is_too_large_goes_alone() -> None:
    assert into_batches([1, 99, 1], size, limit=10) == [[1], [99], [1]]


@given(st.lists(st.integers(0, 32_000), max_size=400))
def test_order_is_kept_and_no_limit_exceeded(items: list[int]) -> None:
    batches = into_batches(items, size)
    assert [item for batch in batches for item in batch] == items
    for batch in batches:
        assert 0 < len(batch) <= MOST_MESSAGES
        assert sum(batch) + SEPARATOR * (len(batch) - 1) <= MOST_BYTES


@given(st.lists(st.text(max_size=30), min_size=1, max_size=50))
def test_a_batch_as_sent_is_within_bounds(texts: list[str]) -> None:
    messages = [{"comment": text} for text in texts]
    limit = 500
    for batch in into_batches(messages, lambda message: len(json.dumps(message)), limit=limit):
        body = {"batch": batch, "sentAt": "2026-11-21T12:00:00.000+00:00", "writeKey": "k" * 64}
        assert len(json.dumps(body)) <= limit + ENVELOPE

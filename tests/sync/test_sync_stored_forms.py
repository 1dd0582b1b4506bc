"""What a run stores of its passes, audits and curves is read again, whatever their fields are named."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.beamer.pagination import Cursor
from connector.sync.lists import count_windows, stored_pass
from connector.sync.lists.blocks import Part
from connector.sync.lists.count_windows import Left, Round, Window
from connector.sync.lists.passes import (
    Continued,
    Depth,
    ListPass,
    Paging,
    PassKind,
    PassPlan,
    PassProgress,
    ReadBehind,
)
from connector.sync.planning import arrival
from connector.sync.planning.arrival import EDGES, Curve, Learning

DAY = timedelta(days=1)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# As version 2 stores it: other keys need another VERSION, with which everything stored starts again.
STORED_LIST = """{"version": 2,
"part": {"low": "2026-01-02T03:04:05+00:00", "failures": 2, "failed_at": "2026-01-03T03:04:05+00:00",
  "step": 60.5, "cursor": {"since": "2026-01-10T03:04:05+00:00", "until": "2026-01-11T03:04:05+00:00",
    "page": 3, "last_ids": ["31", "32"], "behind_short_page": true, "empty_pages": 1, "repeated": 2}},
"plan": {"kind": "first", "counter": "4,2", "counter_trusted": true, "expected": 3, "missing_before": 1,
  "counted": 7, "read_behind": "new_rows"},
"progress": {"new_rows": 5, "quarantined": 1, "invalid": 10, "rows": 8, "pages": 2, "new_since_restart": 4,
  "restarts": 6, "started_at": "2026-01-07T03:04:05+00:00", "since": "2026-01-08T03:04:05+00:00",
  "until": "2026-01-09T03:04:05+00:00", "newest": "2026-01-04T03:04:05+00:00",
  "unsettled": "2026-01-05T03:04:05+00:00", "reached": "2026-01-06T03:04:05+00:00",
  "continued": "front_read", "last_ids_before": ["41"]},
"parts": [{"low": "2026-01-12T03:04:05+00:00", "failures": 4, "failed_at": "2026-01-13T03:04:05+00:00",
  "step": 9.5, "cursor": {"page": 1}}],
"paging": "newest_first", "depth": "shallow"}"""
PLAN = PassPlan(
    PassKind.FIRST,
    counter="4,2",
    counter_trusted=True,
    expected=3,
    missing_before=1,
    counted=7,
    read_behind=ReadBehind.NEW_ROWS,
)
PROGRESS = PassProgress(
    new_rows=5,
    quarantined=1,
    invalid=10,
    rows_read=8,
    pages=2,
    new_since_restart=4,
    restarts=6,
    started_at=START + 5 * DAY,
    since=START + 6 * DAY,
    until=START + 7 * DAY,
    newest=START + 2 * DAY,
    unsettled=START + 3 * DAY,
    reached=START + 4 * DAY,
    continued=Continued.FRONT_READ,
    last_ids_before=("41",),
)
LIST = ListPass(
    Part(
        Cursor(START + 8 * DAY, START + 9 * DAY, 3, ("31", "32"), True, 1, 2),
        START,
        2,
        START + DAY,
        step=60.5,
    ),
    PLAN,
    PROGRESS,
    parts=(Part(Cursor(page=1), START + 10 * DAY, 4, START + 11 * DAY, 9.5),),
    paging=Paging.NEWEST_FIRST,
    depth=Depth.SHALLOW,
)


def test_a_pass_is_stored_by_keys_of_its_own() -> None:
    assert stored_pass.restore(STORED_LIST) == LIST
    assert json.loads(stored_pass.dump(LIST)) == json.loads(STORED_LIST)


def test_every_field_of_a_pass_is_stored() -> None:
    for kind, keys in stored_pass.KEYS.items():
        assert {*keys.values()} == {field.name for field in fields(kind)}
        assert len({*keys.values()}) == len(keys)
    # Each field of the example differs from how a pass begins, so that none is left out above.
    begins = ListPass(Part(Cursor()))
    pairs: list[tuple[Any, Any]] = [(LIST, begins), (PLAN, begins.plan), (PROGRESS, begins.progress)]
    pairs += [(LIST.part, begins.part), (LIST.part.cursor, begins.part.cursor)]
    for example, first in pairs:
        assert [f.name for f in fields(example) if getattr(example, f.name) == getattr(first, f.name)] == []


def test_the_values_of_kinds_are_stored_as_they_are() -> None:
    """Not by the names in the code: with other values, VERSION rises."""
    assert [[*map(str, kind)] for kind in (PassKind, ReadBehind, Continued, Paging, Depth)] == [
        ["list", "first", "hinted", "failed_parts"],
        ["never", "new_rows", "always"],
        ["no", "rest", "front", "front_read"],
        ["number", "date", "newest_first"],
        ["full", "thrifty", "shallow"],
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": None},
        {"unheard_of": 1},
        {"depth": "endless"},
        {"plan": {"kind": 1}},
        {"plan": {"expected": "8"}},
        {"progress": {"rows": "8"}},
        {"progress": {"since": "2026-01-08T03:04:05"}},
        {"progress": 5},
        {"part": {}},
        {"parts": [5]},
    ],
)
def test_a_pass_of_another_shape_starts_again(change: dict[str, Any]) -> None:
    assert stored_pass.restored(json.dumps({**json.loads(STORED_LIST), **change})) is None


def test_an_audit_is_stored_by_keys_of_its_own() -> None:
    stored = '{"version": 1, "left": [[20, 24, null], [24, 25, 8]], "thorough": true}'
    start = datetime(1970, 1, 2, tzinfo=UTC)
    audit = Round((Left(Window(20, 24, start)), Left(Window(24, 25, start), 8)), thorough=True)
    assert count_windows.restored(stored, start) == audit
    assert json.loads(audit.dump() or "") == json.loads(stored)
    assert count_windows.restored(stored.replace('"version": 1', '"version": 2'), start) is None


def test_a_curve_is_stored_by_keys_of_its_own() -> None:
    rates, rows, hours = (
        tuple(start + number for number in range(len(EDGES))) for start in (1.0, 20.0, 40.0)
    )
    learnt = Learning(Curve(rates), rows, hours)
    stored = {"version": 1, "rates": [*rates], "rows": [*rows], "hours": [*hours]}
    assert arrival.restored(json.dumps(stored)) == learnt
    assert json.loads(learnt.dump()) == stored
    assert arrival.restored(json.dumps({**stored, "version": 2})) is None


def test_a_pass_that_begins_is_stored_short() -> None:
    pass_ = ListPass(Part(Cursor()), progress=PassProgress(pages=1))
    stored = {"version": 2, "part": {"cursor": {}}, "progress": {"pages": 1}}
    assert json.loads(stored_pass.dump(pass_)) == stored
    assert stored_pass.restore(stored_pass.dump(pass_)) == pass_

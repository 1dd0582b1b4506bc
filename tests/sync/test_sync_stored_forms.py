"""What a run stores of its passes, audits and curves is read again, whatever their fields are named."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.beamer.pagination import Cursor
from connector.sync.lists import count_windows, stored_pass
from connector.sync.lists.blocks import Part
from connector.sync.lists.count_windows import Left, Round, Window
from connector.sync.lists.passes import ListPass
from connector.sync.planning import arrival
from connector.sync.planning.arrival import EDGES, Curve, Learning

DAY = timedelta(days=1)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# As version 1 stores it: other keys need another VERSION, with which everything stored starts again.
STORED_LIST = (
    '{"version": 1, "low": "2026-01-02T03:04:05+00:00", "failures": 2,'
    ' "failed_at": "2026-01-03T03:04:05+00:00", "step": 60.5, "counter": "4,2", "expected": 3,'
    ' "missing_before": 1, "counter_trusted": true,'
    ' "first_reading": true, "known": true, "newest_first": true, "by_date": false,'
    ' "stops_early": true, "hinted": true, "counted": 7, "new_rows": 5, "rows": 8, "pages": 2,'
    ' "new_since_restart": 4, "quarantined": 1, "invalid": 1, "newest": "2026-01-04T03:04:05+00:00",'
    ' "unsettled": "2026-01-05T03:04:05+00:00", "reached": "2026-01-06T03:04:05+00:00",'
    ' "started_at": "2026-01-07T03:04:05+00:00", "since": "2026-01-08T03:04:05+00:00",'
    ' "until": "2026-01-09T03:04:05+00:00", "restarts": 1, "doubtful": true, "shallow": true,'
    ' "resumed": true, "last_ids_before": ["41"], "front": true, "front_read": true, "hole": true,'
    ' "cursor": {"since": "2026-01-10T03:04:05+00:00", "until": "2026-01-11T03:04:05+00:00", "page": 3,'
    ' "last_ids": ["31", "32"], "behind_short_page": true, "empty_pages": 1, "repeated": 2},'
    ' "parts": [{"low": "2026-01-12T03:04:05+00:00", "failures": 4, "failed_at": "2026-01-13T03:04:05+00:00",'
    ' "step": 9.5, "cursor": {"page": 1}}]}'
)
LIST = ListPass(
    Cursor(START + 8 * DAY, START + 9 * DAY, 3, ("31", "32"), True, 1, 2),
    START,
    counter="4,2",
    expected=3,
    missing_before=1,
    counter_trusted=True,
    first_reading=True,
    known=True,
    newest_first=True,
    by_date=False,
    thrifty=True,
    hinted=True,
    counted=7,
    new_rows=5,
    rows_read=8,
    pages=2,
    new_since_restart=4,
    quarantined=1,
    invalid=1,
    newest=START + 2 * DAY,
    unsettled=START + 3 * DAY,
    reached=START + 4 * DAY,
    started_at=START + 5 * DAY,
    since=START + 6 * DAY,
    until=START + 7 * DAY,
    restarts=1,
    doubtful=True,
    shallow=True,
    resumed=True,
    last_ids_before=("41",),
    front=True,
    front_read=True,
    parts=(Part(Cursor(page=1), START + 10 * DAY, 4, START + 11 * DAY, 9.5),),
    hole=True,
    failures=2,
    failed_at=START + DAY,
    step=60.5,
)


def test_a_pass_is_stored_by_keys_of_its_own() -> None:
    assert stored_pass.restore(STORED_LIST) == LIST
    assert json.loads(stored_pass.dump(LIST)) == json.loads(STORED_LIST)


def test_every_field_of_a_pass_is_stored() -> None:
    for kind, keys, apart in (
        (ListPass, stored_pass.PASS, {"cursor", "parts"}),
        (Part, stored_pass.PART, {"cursor"}),
        (Cursor, stored_pass.CURSOR, set[str]()),
    ):
        assert {*keys.values()} | apart == {field.name for field in fields(kind)}
        assert len({*keys.values()}) == len(keys)
    # Each field of the example differs from how a pass begins, so that none is left out above.
    begins = ListPass(Cursor(), None)
    assert [f.name for f in fields(LIST) if getattr(LIST, f.name) == getattr(begins, f.name)] == []


@pytest.mark.parametrize("change", [{"version": 2}, {"version": None}, {"unheard_of": 1}, {"rows": "8"}])
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
    pass_ = replace(ListPass(Cursor(), None), pages=1)
    assert json.loads(stored_pass.dump(pass_)) == {"version": 1, "cursor": {}, "pages": 1}
    assert stored_pass.restore(stored_pass.dump(pass_)) == pass_

"""People who are to be forgotten: nothing of them stays, and nobody else is touched."""

import json
from typing import Any

import pytest
from sqlalchemy import insert, select

from connector.errors import Busy
from connector.state import leases, privacy, runs
from connector.state.engine import Database
from connector.state.leases import Lease, this_process
from connector.state.privacy import Erased, Forgotten
from connector.state.tables import forgotten, keys, outbox, quarantine
from tests.state.times import DAY, HOUR, NOW

JANE = 'jane%_"é\\😀'
OTHERS = ["JANE%_", "jane", JANE + "x", JANE.upper(), None, 7]


def message(database: Database, user: Any, state: str = "waiting", connection: str = "default") -> None:
    with database.write() as db:
        count = len(db.execute(select(outbox.c.id)).all())
        message = json.dumps({"userId": user, "properties": {"comment": JANE}}, separators=(",", ":"))
        values = {"connection": connection, "destination": "d", "message_id": f"m{count}", "stream": "nps"}
        more = {"event": "E", "size": 1, "made_at": NOW, "state": state, "tries": 0, "message": message}
        db.execute(insert(outbox).values(**values, **more))


def rejected(database: Database, raw: Any) -> None:
    with database.write() as db:
        digest = str(len(db.execute(select(quarantine.c.id)).all()))
        values = {"connection": "default", "stream": "nps", "parent": "0", "digest": digest, "reason": "r"}
        db.execute(insert(quarantine).values(**values, body=json.dumps(raw), seen_at=NOW))


def theirs(raw: Any) -> bool:
    return isinstance(raw, dict) and raw.get("userId") == JANE


def test_what_is_theirs_goes_and_nothing_else(database: Database, lease: Lease) -> None:
    for state in ("waiting", "flight", "dead"):
        message(database, JANE, state)
    message(database, JANE, connection="other")
    for user in OTHERS:
        message(database, user)
    for raw in ({"userId": JANE, "text": "x"}, {"userId": "somebody"}, [JANE], None):
        rejected(database, raw)
    assert privacy.erase(database, lease, JANE, theirs, NOW) == Erased(2, 1, 1)
    assert privacy.erase(database, lease, JANE, theirs, NOW) == Erased(0, 0, 0)
    with database.read() as db:
        left = [json.loads(text)["userId"] for text in db.execute(select(outbox.c.message)).scalars()]
        assert left == [JANE, *OTHERS]
        assert len(db.execute(select(quarantine.c.id)).all()) == 3


def test_what_was_quarantined_long_ago_has_no_text_left_to_tell_whose_it_was(
    database: Database, lease: Lease
) -> None:
    rejected(database, {"userId": JANE})
    runs.delete_old(database, lease, NOW + 31 * DAY, NOW + DAY)
    assert privacy.erase(database, lease, JANE, theirs, NOW) == Erased(0, 0, 0)


def test_many_messages_of_one_person(database: Database, lease: Lease) -> None:
    with database.write() as db:
        same = {"connection": "default", "destination": "d", "stream": "nps", "event": "E", "size": 1}
        more = {"made_at": NOW, "state": "waiting", "tries": 0, "message": '{"userId":"u"}'}
        db.execute(insert(outbox), [{**same, **more, "message_id": f"m{n}"} for n in range(1_203)])
    assert privacy.erase(database, lease, "u", theirs, NOW).waiting == 1_203


def test_who_was_forgotten_is_known_by_connection(database: Database, lease: Lease) -> None:
    assert "jane" not in privacy.load(database, "default")
    privacy.erase(database, lease, "jane", theirs, NOW)
    privacy.erase(database, lease, JANE, theirs, NOW)
    known = privacy.load(database, "default")
    assert "jane" in known
    assert JANE in known
    assert not any(user in known for user in ("Jane", "jan", "", None, 7))
    assert "jane" not in privacy.load(database, "other")
    assert "jane" not in Forgotten()


def test_the_store_holds_a_digest_that_is_good_with_its_own_key_only(
    database: Database, lease: Lease
) -> None:
    privacy.erase(database, lease, "jane", theirs, NOW)
    with database.read() as db:
        (digest,) = db.execute(select(forgotten.c.digest)).scalars()
        (key,) = db.execute(select(keys.c.value)).scalars()
    assert (len(digest), len(key)) == (64, 64)
    assert "jane" not in digest
    assert "jane" not in Forgotten(b"another key", frozenset({digest}))
    assert key not in repr(privacy.load(database, "default"))


def test_a_run_that_lost_its_lease_forgets_nobody(database: Database, lease: Lease) -> None:
    leases.acquire(database, "default", this_process(), NOW + HOUR)
    with pytest.raises(Busy):
        privacy.erase(database, lease, "jane", theirs, NOW + HOUR)
    assert "jane" not in privacy.load(database, "default")

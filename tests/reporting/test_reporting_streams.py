"""What `streams` says: which streams are read, what the key may read, and what a poll costs."""

from connector.reporting.status import read_status
from connector.reporting.streams import StreamCost, stream_costs
from tests.harness import Rig, hold_still, sandbox


def costs(rig: Rig) -> dict[str, StreamCost]:
    policy, now = rig.context().policy, rig.clock.now()
    status = read_status(rig.database, "default", rig.limits, "", policy, now)
    found = stream_costs(rig.database, status, policy, sorted(policy.streams), now)
    return {stream.name: stream for stream in found}


def test_a_poll_costs_what_the_streams_say(sqlite_url: str) -> None:
    rig = Rig(sandbox(), sqlite_url)
    hold_still(rig.sandbox)
    rig.sync()
    found = costs(rig)
    report = rig.sync().report
    polled = sum(stream.polled or 0 for stream in found.values())
    assert polled == report.requests_spent - report.audited.total()
    assert {(stream.use, stream.key) for stream in found.values()} == {("sent", "may read")}
    assert found["comments"].polled == 0, "the counters of posts show new comments"
    assert all(stream.rows == stream.as_dict()["rows"] > 0 for stream in found.values())
    rig.close()


def test_streams_that_are_off_and_a_key_that_may_not_read(sqlite_url: str) -> None:
    rig = Rig(sandbox(), sqlite_url, streams=frozenset({"comments", "nps"}))
    rig.sandbox.switches.may_read -= {"nps"}
    rig.sync()
    found = costs(rig)
    shown = {name: (stream.use, stream.key) for name, stream in found.items()}
    assert shown["posts"] == ("read", "may read"), "for its counters"
    assert shown["comments"] == ("sent", "may read")
    assert shown["nps"] == ("sent", "forbidden")
    assert shown["reactions"] == shown["feature_requests"] == ("off", "not tried")
    assert found["reactions"].polled is None
    unused = stream_costs(
        None,
        read_status(rig.database, "other", rig.limits, "", None, rig.clock.now()),
        None,
        ["nps"],
        rig.clock.now(),
    )
    assert [stream.polled for stream in unused] == [None, None, None, 1, None, None, None]
    rig.close()

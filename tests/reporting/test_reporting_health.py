"""Health in one word: the worst counts, and each thing that is wrong says what to do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.domain.budget import Balance
from connector.errors import Forbidden, StateDamaged
from connector.reporting.health import HEALTH, as_dict, health, problems, worst
from connector.reporting.rendering import Screen, status_lines
from connector.reporting.status import Status, StreamStatus, read_status
from connector.state.connections import Identity, KeyChange
from connector.state.deliveries import LastProof
from connector.state.leases import Holder
from connector.state.outbox import Waiting
from connector.state.runs import PastRun
from connector.state.suspensions import Refusal
from tests.harness import Rig, sandbox

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BALANCE = Balance(100, 850, None, False, {}, NOW - 15 * 24 * HOUR, level=20.0, per_day=30.0)
WELL = Status(
    "default",
    Identity("default", "acct", "dest", NOW - 720 * HOUR),
    "plan free",
    (StreamStatus("comments", NOW, NOW, {"rows": 3, "events": 3}, 0, {}, None, counters_trusted=True),),
    BALANCE,
    {},
    now=NOW,
    runs=(PastRun(1, "sync", NOW - HOUR, NOW - HOUR, "done", 0),),
    succeeded=NOW - HOUR,
    every=HOUR,
)


def stream(**changes: Any) -> tuple[StreamStatus, ...]:
    return (replace(WELL.streams[0], **changes),)


def failed(outcome: str, code: int) -> tuple[PastRun, ...]:
    return (PastRun(2, "sync", NOW, NOW, outcome, code), *WELL.runs)


AILING: dict[str, dict[str, Any]] = {
    "damaged": {"damaged": StateDamaged("A value cannot be read.", todo="Repair it.")},
    "mismatched": {"change": KeyChange(frozenset({"Beamer key", "Segment write key"}), blank=False)},
    "suspended": {"suspended": Refusal("default", "beamer", "Beamer refused it.", NOW - HOUR)},
    "stuck": {"waiting": (Waiting("dest", 7, NOW - 2 * HOUR),)},
    "failing": {"runs": failed("failed", 69)},
    "closed": {"balance": replace(BALANCE, closed_until=NOW + HOUR)},
    "exhausted": {"balance": replace(BALANCE, left=0, level=0.0)},
    "missing": {"proof": LastProof((("3 events are missing at Segment.", "Send them again."),))},
    "late": {"succeeded": NOW - 4 * HOUR},
    "unconfirmed": {"change": KeyChange(frozenset({"Beamer key"}), blank=False)},
    "partial": {"streams": stream(trouble=Forbidden.trouble_text, trouble_code=Forbidden.trouble_code)},
    "doubtful": {"streams": stream(counters_trusted=False)},
    "saving": {"balance": replace(BALANCE, level=0.4), "streams": stream(lists_waiting=2)},
    "never run": {"identity": None},
    "healthy": {},
}


def test_every_word_has_its_case() -> None:
    assert list(AILING) == [each.word for each in HEALTH]


@pytest.mark.parametrize(("word", "changes"), AILING.items())
def test_a_word_for_each(word: str, changes: dict[str, Any]) -> None:
    found = replace(WELL, **changes)
    judged, why = health(found)
    assert judged.word == word
    for each in problems(found):
        assert each.found
        assert each.todo
    assert (why is None) == (word in ("never run", "healthy"))
    shown = "\n".join(status_lines(found, Screen()))
    assert word.upper() in shown if judged.grade == "error" else word in shown
    assert why is None or (why.found in shown and why.todo in shown)
    assert as_dict(found)["health"] == word


@pytest.mark.parametrize(
    ("killed", "holders", "said"),
    [
        ((), (), "The last run exited with code 69 at 2026-03-16 12:00 UTC."),
        (
            ("sync",),
            (),
            "The last run (2026-03-16 12:00 UTC) was killed; the run before it exited with code 69",
        ),
        (("backfill",), (), "was killed; the run before it exited with code 69"),
        (("sync",), (Holder("sync", 1, "here", NOW, False),), "The last run exited with code 69"),
        (("sync", "sync"), (), "The last 2 runs were killed or interrupted"),
    ],
)
def test_a_killed_run_does_not_show_the_code_of_the_one_before(
    killed: tuple[str, ...], holders: tuple[Holder, ...], said: str
) -> None:
    cut = tuple(PastRun(9 - place, command, NOW, None, None, None) for place, command in enumerate(killed))
    found = replace(WELL, runs=(*cut, *failed("failed", 69)), holders=holders)
    assert said in next(each.found for each in problems(found))
    done = replace(WELL, runs=(*cut[:1], *WELL.runs), holders=holders)
    assert health(done)[0].word == "healthy", "one may be cut short, by a new version for example"


def test_a_reason_that_is_a_sentence_ends_within_its_own() -> None:
    (found,) = problems(replace(WELL, streams=stream(trouble="The connection to Beamer failed.")))
    assert found.found == "comments is not read: The connection to Beamer failed; the other streams continue."


@pytest.mark.parametrize("worse", range(len(AILING) - 2))
def test_the_worst_word_wins(worse: int) -> None:
    words = list(AILING)[:-2]
    changes: dict[str, Any] = {}
    for word in reversed(words[worse:]):
        changes |= AILING[word]
    assert health(replace(WELL, **changes))[0].word == words[worse]


def test_the_worst_word_of_several_connections_gives_the_exit_code() -> None:
    ailing = [replace(WELL, **AILING[word]) for word in ("saving", "stuck", "suspended", "late")]
    assert (worst(ailing).word, int(worst(ailing).exit)) == ("suspended", 77)
    assert int(worst([WELL, replace(WELL, identity=None)]).exit) == int(worst([]).exit) == 0


def cut_short(*outcomes: str | None) -> tuple[PastRun, ...]:
    """Runs that ended so, the newest first; None was killed."""
    ran = (PastRun(9, "sync", NOW, NOW if each else None, each, 130 if each else None) for each in outcomes)
    return (*ran, *WELL.runs)


@pytest.mark.parametrize("outcomes", [(None, None), ("interrupted", None), ("interrupted",) * 3])
def test_runs_that_are_cut_short_again_and_again_are_not_healthy(outcomes: tuple[str | None, ...]) -> None:
    judged, why = health(replace(WELL, runs=cut_short(*outcomes)))
    assert (judged.word, why and why.found.split()[2]) == ("failing", str(len(outcomes)))
    assert health(replace(WELL, runs=cut_short(*outcomes)[:-1], succeeded=None))[0].word == "failing"


NO_AILMENT: list[dict[str, Any]] = [
    {"runs": cut_short(None)},  # the machine went down
    {"runs": cut_short("interrupted")},  # a new version was put in its place
    {
        "runs": cut_short(None, None, "done"),
        "holders": (Holder("sync", 1, "here", NOW + HOUR, False),),
    },
    {"waiting": (Waiting("dest", 7, NOW - HOUR / 2),)},  # the next sync tries it
    {"runs": failed("stopped", 0)},
    {"runs": failed("failed", 69)[1:]},
    {"every": None, "succeeded": NOW - 24 * HOUR},
    {"every": HOUR / 60, "succeeded": NOW - HOUR},  # five minutes are no eternity
    {"balance": replace(BALANCE, level=0.0)},  # nothing is known to wait
    {"balance": replace(BALANCE, left=None, level=None)},
    {"succeeded": NOW - 9 * HOUR, "holders": (Holder("sync", 1, "here", NOW + HOUR, False),)},
]


@pytest.mark.parametrize("changes", NO_AILMENT)
def test_what_is_as_it_should_be(changes: dict[str, Any]) -> None:
    assert health(replace(WELL, **changes))[0].word == "healthy"


def test_the_even_line() -> None:
    told = replace(BALANCE, until=NOW + 15 * 24 * HOUR)
    assert replace(WELL, balance=told).even == pytest.approx(0.5, abs=0.001)
    young = replace(WELL, began=NOW - 32 * HOUR)
    assert young.even == pytest.approx(1 / 24, rel=0.1)
    assert replace(WELL, balance=replace(BALANCE, since=NOW - 32 * 24 * HOUR)).even == 1.0
    assert replace(WELL, balance=replace(BALANCE, left=None)).even is None
    assert WELL.usable == 950
    assert "100 of 950 requests used (11%)" in "\n".join(status_lines(WELL, Screen()))


@pytest.mark.parametrize("width", [30, 40, 60, 80, 132])
@pytest.mark.parametrize("fine", [True, False])
def test_it_fits(width: int, fine: bool) -> None:
    changes = {name: value for each in AILING.values() for name, value in each.items() if name != "identity"}
    found = status_lines(replace(WELL, **changes), Screen(width, fine=fine))
    assert max(map(len, found)) <= width
    assert fine or "\n".join(found).isascii()


def test_a_stream_that_is_not_read_is_not_shown(sqlite_url: str) -> None:
    rig = Rig(sandbox(), sqlite_url, streams=frozenset({"comments"}))

    def shown() -> list[str]:
        policy = rig.context().policy
        found = read_status(rig.database, "default", rig.limits, "", policy, rig.clock.now())
        return [each.name for each in found.streams]

    rig.sync()
    assert shown() == ["posts", "comments"], "posts are read for their counters"
    rig.streams = frozenset({"nps"})
    rig.sync()
    assert shown() == ["posts", "comments", "nps"], "rows that were counted are still shown"
    rig.close()


def test_a_refused_key_leaves_a_forbidden_stream_forbidden(sqlite_url: str) -> None:
    """The request that was refused counts as spent, but it is no answer about the stream."""
    rig = Rig(sandbox(), sqlite_url)
    rig.sandbox.switches.may_read -= {"nps"}
    assert rig.sync().error is None
    rig.sandbox.faults.script("beamer", [401] * 20)
    assert rig.sync().error is not None
    found = read_status(rig.database, "default", rig.limits, "", rig.context().policy, rig.clock.now())
    rig.close()
    (nps,) = [each for each in found.streams if each.name == "nps"]
    assert nps.trouble == "the key may not read it (403)"

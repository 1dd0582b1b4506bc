"""Changes of health that are posted to a webhook, without a process of their own."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from threading import Event
from time import monotonic

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from connector.cli.notify import MOST_LINES, alert
from connector.config import Connection
from connector.state.tables import connections, streams
from tests.cli.switch import Switch
from tests.harness import Rig, sandbox
from tests.http.servers import serving

HOSTILE = "<!channel> \x1b[31m& more"


@pytest.fixture
def rig(sqlite_url: str) -> Iterator[Rig]:
    rig = Rig(sandbox(), sqlite_url, streams=frozenset({"nps"}))
    rig.sync()
    yield rig
    rig.close()


def trouble(rig: Rig, text: str | None) -> None:
    with rig.database.write() as db:
        db.execute(update(streams).where(streams.c.name == "nps").values(trouble=text))


def post(rig: Rig, switch: Switch, *names: str) -> list[str]:
    """The texts that are posted now, and whether that failed as a last one."""
    before = len(switch.texts)
    with capture_logs() as logs:
        alert(switch.url, rig.database, [Connection(name=name) for name in names or ("default",)], rig.clock)
    assert "a-check" not in str(logs)
    return switch.texts[before:] + [entry["event"] for entry in logs]


def test_changes_are_posted_once_an_hour_and_escaped(rig: Rig, switch: Switch) -> None:
    assert post(rig, switch) == []
    trouble(rig, HOSTILE)
    (text,) = post(rig, switch)
    assert text.startswith("beamer-segment: connection 'default' is partial, it was healthy. nps is not read")
    assert "&lt;!channel&gt; \\u001b[31m&amp; more" in text
    assert post(rig, switch) == []
    trouble(rig, None)
    assert post(rig, switch) == [], "within the hour"
    rig.sandbox.advance(timedelta(hours=1))
    assert post(rig, switch) == ["beamer-segment: connection 'default' is healthy, it was partial."]


@pytest.mark.parametrize("status", [302, 500])
def test_one_that_is_not_taken_is_posted_again(rig: Rig, switch: Switch, status: int) -> None:
    trouble(rig, "It broke.")
    switch.status = status
    assert len(post(rig, switch)) == 2
    assert post(rig, switch)[1:] == ["alert_failed"]
    switch.status = 200
    assert len(post(rig, switch)) == 1


def test_a_webhook_that_never_answers_is_waited_for_no_longer(rig: Rig) -> None:
    trouble(rig, "It broke.")
    over = Event()

    def silent(_: socket.socket) -> None:
        over.wait(20)

    with serving(silent) as port, capture_logs() as logs:
        url, began = f"http://127.0.0.1:{port}/secretword", monotonic()
        alert(url, rig.database, [Connection()], rig.clock, seconds=0.3)
    over.set()
    assert monotonic() - began < 5
    assert [entry["event"] for entry in logs] == ["alert_failed"]
    assert "secretword" not in str(logs)


def test_nobody_there_is_a_warning(rig: Rig, switch: Switch) -> None:
    trouble(rig, "It broke.")
    switch.url = "http://127.0.0.1:1/a-check"
    assert post(rig, switch) == ["alert_failed"]


def test_many_connections_are_one_message(rig: Rig, switch: Switch) -> None:
    names = [f"c{number}" for number in range(MOST_LINES + 2)]
    with rig.database.write() as db:
        first = db.execute(connections.select()).mappings().one()
        db.execute(connections.insert(), [{**first, "name": name} for name in names])
        rows = [{"connection": name, "name": "nps", "trouble": "It broke."} for name in names]
        db.execute(streams.insert(), [{"complete": True, "list_order": "unknown", **row} for row in rows])
    (text,) = post(rig, switch, *names)
    assert len(text.splitlines()) == MOST_LINES + 1
    assert text.endswith("and 2 more connections; `beamer-segment status` shows them")

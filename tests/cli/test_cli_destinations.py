"""Which of Segment's destinations get the events, and where they are sent."""

import pytest

from connector import __version__
from tests.cli.process import Machine

CONNECTIONS = """
write_key_env = "SEGMENT_WRITE_KEY"
api_key_env = "BEAMER_API_KEY"
account = "acme"
streams = ["nps"]

[[connections]]
name = "one"
destination = "one"
integrations = { All = true, Mixpanel = false }

[[connections]]
name = "two"
destination = "two"
"""


def test_each_connection_has_its_own_integrations(machine: Machine) -> None:
    file = machine.here / "connector.toml"
    file.write_text(CONNECTIONS)
    ended = machine.run("sync", "--all", "--config", str(file))
    assert ended.code == 0, ended.err
    found = {
        m["properties"]["beamer_connection"]: m["integrations"] for m in machine.sandbox.segment.messages
    }
    assert found == {"one": {"All": True, "Mixpanel": False}, "two": {}}
    integrations = [message["context"]["integration"] for message in machine.sandbox.segment.messages]
    assert all(each == {"name": "beamer-segment", "version": __version__} for each in integrations)


@pytest.mark.parametrize(
    ("region", "host"),
    [("us", "https://api.segment.io "), ("eu", "https://events.eu1.segmentapis.com ")],
)
def test_a_region_has_its_own_host(machine: Machine, region: str, host: str) -> None:
    machine.extra |= {"SEGMENT_REGION": region, "SEGMENT_HOST": ""}
    ended = machine.run("check", "--offline")
    assert (ended.code, host in ended.out) == (0, True), ended.out


def test_a_changed_write_key_is_named_once(machine: Machine) -> None:
    """Segment refuses no key, so that nothing else shows a wrong one."""
    assert "destination_changed" not in machine.run("sync").err
    machine.extra["SEGMENT_WRITE_KEY"] = "another-key"
    assert "destination_changed" in machine.run("sync").err
    assert "destination_changed" not in machine.run("sync").err

"""compose.yaml: its settings exist, its secrets are files, and it may do no more than a pod."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from connector import __version__
from connector.config.sources import EVERY
from tests.places.dockerfile import ROOT, only

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
CONNECTOR, DATABASE = COMPOSE["services"]["connector"], COMPOSE["services"]["database"]


def _holds_settings(connector: dict[str, Any]) -> None:
    """Each variable is a setting, and each secret one of a file."""
    known = {setting.environment: setting for setting in EVERY.values()}
    for name, value in connector["environment"].items():
        setting = known[name.removesuffix("_FILE")]
        assert setting.secret == name.endswith("_FILE"), name
        if setting.secret:
            assert value.removeprefix("/run/secrets/") in connector["secrets"]


def test_the_settings_exist_and_secrets_are_files() -> None:
    _holds_settings(CONNECTOR)
    used = {*CONNECTOR["secrets"], *DATABASE["secrets"]}
    assert COMPOSE["secrets"] == {name: {"file": f"secrets/{name}"} for name in used}
    assert "secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_page_makes_each_secret_and_its_url_names_the_database() -> None:
    page = (ROOT / "docs" / "how-to" / "docker.md").read_text(encoding="utf-8")
    assert {*re.findall(r"> secrets/(\w+)$", page, re.MULTILINE)} == {*COMPOSE["secrets"]}
    user, name = DATABASE["environment"]["POSTGRES_USER"], DATABASE["environment"]["POSTGRES_DB"]
    assert f"postgresql://{user}:%s@database/{name}" in page
    assert f"--username={user}" in DATABASE["healthcheck"]["test"]
    assert f"--dbname={name}" in DATABASE["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["connector", "database"])
def test_a_service_is_restarted_and_its_health_is_known(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or (service["build"] == "." and only("HEALTHCHECK"))
    assert not service["image"].endswith(":latest")


def test_the_connector_may_do_nothing_that_it_need_not() -> None:
    assert CONNECTOR["image"].endswith(f":{__version__}")
    assert (CONNECTOR["read_only"], CONNECTOR["cap_drop"]) == (True, ["ALL"])
    assert CONNECTOR["security_opt"] == ["no-new-privileges:true"]
    assert CONNECTOR["depends_on"] == {"database": {"condition": "service_healthy"}}
    port = CONNECTOR["environment"]["CONNECTOR_BIND"].rpartition(":")[2]
    assert CONNECTOR["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert "ports" not in DATABASE


def test_what_webhooks_add_fits_to_it() -> None:
    """The example of webhooks.md is a file that Compose merges: it names nothing that is there already."""
    page = (ROOT / "docs" / "how-to" / "webhooks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    added = yaml.safe_load(example)
    assert added.keys() == {"services", "secrets"}
    assert added["services"].keys() == {"connector"}
    connector = added["services"]["connector"]
    _holds_settings(connector)
    assert not connector["environment"].keys() & CONNECTOR["environment"].keys()
    assert added["secrets"] == {name: {"file": f"secrets/{name}"} for name in connector["secrets"]}
    assert not added["secrets"].keys() & COMPOSE["secrets"].keys()
    port = connector["environment"]["BEAMER_WEBHOOK_BIND"].rpartition(":")[2]
    assert connector["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert not {*connector["ports"]} & {*CONNECTOR["ports"]}

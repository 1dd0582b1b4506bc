"""What is published: the metadata, the README on a package index, the same wheel every time, the workflow."""

import hashlib
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml  # type: ignore[import-untyped]
from hatchling.builders.wheel import WheelBuilder

from connector import __version__
from tests.places.dockerfile import ROOT, context

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GITHUB = ROOT / ".github"


def built(root: Path, folder: Path) -> Path:
    (wheel,) = WheelBuilder(str(root)).build(directory=str(folder))
    return Path(wheel)


def test_the_wheel_is_the_same_from_every_folder_and_has_links_that_an_index_can_follow(
    tmp_path: Path,
) -> None:
    # New files with other dates, in another order.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in sorted(context(), reverse=True):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, elsewhere / name)
    wheel, again = built(ROOT, tmp_path / "a"), built(elsewhere, tmp_path / "b")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, again)}
    assert len(digests) == 1

    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    head, _, readme = metadata.partition("\n\n")
    assert f"\nVersion: {PROJECT['version']}\n" in head
    assert "\nDescription-Content-Type: text/markdown" in head
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(links) > 40
    assert [link for link in links if not link.startswith("https://")] == []
    # Where the site has these pages.
    site = PROJECT["urls"]["Documentation"]
    own = {link.removeprefix(site).partition("#")[0] for link in links if link.startswith(site)}
    known = {
        "reference/changelog.html",
        "contributing/index.html",
        "explanation/security.html",
        "files/LICENSE",
    }
    for page in own - known:
        assert (ROOT / "docs" / page).with_suffix(".md").exists() or (ROOT / "docs" / page).exists(), page
    assert known <= own


def test_one_version_everywhere_and_addresses() -> None:
    assert PROJECT["version"] == __version__
    assert {*PROJECT["urls"]} == {"Documentation", "Changelog", "Source", "Issues"}
    assert all(address.startswith("https://") for address in PROJECT["urls"].values())


def test_the_workflow_runs_what_every_machine_runs() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert workflow["permissions"] == {"contents": "read"}
    supported = {
        f"Programming Language :: Python :: {python}" for python in job["strategy"]["matrix"]["python"]
    }
    assert supported <= {*PROJECT["classifiers"]}


@pytest.mark.parametrize("name", ["problem", "idea"])
def test_an_issue_template_has_fields(name: str) -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= {*form}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) >= 2
    assert all(field["attributes"]["label"] for field in fields)

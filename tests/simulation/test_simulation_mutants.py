"""The simulation notices a connector that is broken on purpose."""

from pathlib import Path

import pytest

import connector
from tests.simulation.mutants import apply, hunt
from tests.simulation.mutations import MUTANTS

PACKAGE = Path(connector.__file__).parent
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
ENOUGH = 40


@pytest.mark.parametrize("name", BY_NAME)
def test_each_replacement_has_its_place(name: str) -> None:
    for edit in BY_NAME[name].edits:
        assert (PACKAGE / edit.file).read_text(encoding="utf-8").count(edit.old) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "redirect",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("retries-free", "two-transactions", "not-synced", "full-for-good")
        ),
    ],
)
def test_a_broken_connector_is_noticed(name: str) -> None:
    caught = hunt(BY_NAME[name], ENOUGH)
    assert caught.seed is not None
    assert caught.said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sent-early", "confirms-others"])
def test_the_model_notices_by_itself(name: str) -> None:
    caught = hunt(BY_NAME[name], ENOUGH)
    assert caught.seed is not None
    assert caught.said.startswith("model: ")


def test_a_replacement_without_its_place_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("one two one", encoding="utf-8")
    apply(file, "two", "three")
    assert file.read_text(encoding="utf-8") == "one three one"
    with pytest.raises(ValueError, match="2 times"):
        apply(file, "one", "four")

"""Months that were measured, kept in a file of JSON lines, so that an interrupted benchmark goes on."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.quota_month import Measured

# The months that the tables of benchmarks.md are made from. `make bench-quota` measures into a file under
# build/; months for those tables are put here.
KEPT = Path(__file__).with_name("quota_months.jsonl")

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Result:
    """One month of one account, method and seed."""

    account: str
    method: str
    seed: int
    measured: Measured

    @property
    def key(self) -> Key:
        return self.account, self.method, self.seed


class Results:
    """The results at hand; each is appended to the file, where there is one, as soon as it is there."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._of: dict[Key, Result] = {}
        if path and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._keep(_restored(line))

    def __contains__(self, key: object) -> bool:
        return key in self._of

    def add(self, result: Result) -> None:
        self._keep(result)
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result), sort_keys=True) + "\n")

    def of(self, account: str, method: str, seeds: Iterable[int]) -> dict[int, Measured]:
        """The months of an account and a method, by seed; later results take the place of earlier ones."""
        found = ((seed, self._of.get((account, method, seed))) for seed in seeds)
        return {seed: result.measured for seed, result in found if result}

    def _keep(self, result: Result) -> None:
        self._of[result.key] = result


def _restored(line: str) -> Result:
    values = json.loads(line)
    return Result(values["account"], values["method"], values["seed"], Measured(**values["measured"]))

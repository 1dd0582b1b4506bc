"""A process that dies at any moment: whatever it had begun, each row arrives once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from connector.state.engine import Database
from connector.sync.run import Run
from tests.harness import Rig
from tests.sandbox import Sandbox
from tests.sync.test_sync_budget import small


class Death(BaseException):
    """The process is gone."""


class Mortal(Database):
    """A database of a process that dies: before, or just after, its n-th transaction was committed."""

    def __init__(self, database: Database, lives: int, *, after: bool) -> None:
        super().__init__(database.engine)
        self.left = lives
        self._after = after

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.left -= 1
        if self.left < 0 or (self.left == 0 and not self._after):
            raise Death
        with super().write() as connection:
            yield connection
        if self.left == 0:
            raise Death

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if self.left <= 0:
            raise Death
        with super().read() as connection:
            yield connection


def die(rig: Rig, lives: int, *, after: bool) -> bool:
    """Run until death; False if the run ended before."""
    whole, rig.database = rig.database, Mortal(rig.database, lives, after=after)
    try:
        Run(rig.context()).go()
    except Death:
        return True
    finally:
        rig.database = whole
    return False


def revive(box: Sandbox, url: str) -> Rig:
    box.advance(timedelta(seconds=61))  # this process is alive, so the dead one's lease has to end
    return Rig(box, url)


def deaths(path: Path, step: int, *, after: bool) -> int:
    count = 0
    for lives in range(3, 400, step):
        box, url = small(), f"sqlite:///{path / f'{after}{lives}.sqlite'}"
        rig = Rig(box, url)
        start = rig.start
        died = die(rig, lives, after=after)
        rig.database.engine.dispose()
        if not died:
            break
        count += 1
        again = revive(box, url)
        again.start = start
        assert again.sync().exit == 0
        again.check()
        again.close()
    return count


@pytest.mark.parametrize("after", [False, True])
def test_death_around_any_transaction(tmp_path: Path, after: bool) -> None:
    assert deaths(tmp_path, 17, after=after) > 3


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
def test_death_around_every_transaction(tmp_path: Path, after: bool) -> None:
    assert deaths(tmp_path, 1, after=after) > 50


class Killer:
    """Ends the process at a request: before its work was done, or after, when nobody hears of it."""

    def __init__(self, rig: Rig, database: Mortal, *, done: bool) -> None:
        self.struck = False
        self._rig = rig
        self._database = database
        self._done = done

    def __call__(self, request: Any) -> None:
        self.struck = True
        self._database.left = 0
        if self._done:
            self._rig.sandbox.perform(request)
        raise Death


@pytest.mark.parametrize("number", [0, 1, 2, 7, 19])
@pytest.mark.parametrize("api", ["beamer", "segment"])
@pytest.mark.parametrize("done", [False, True])
def test_death_during_a_request(tmp_path: Path, api: Any, done: bool, number: int) -> None:
    box, url = small(), f"sqlite:///{tmp_path / 'state.sqlite'}"
    rig = Rig(box, url)
    whole, mortal = rig.database, Mortal(rig.database, 10_000, after=False)
    killer = Killer(rig, mortal, done=done)
    rig.database = mortal
    box.faults.script(api, ["ok"] * number + [killer])
    with suppress(Death):
        Run(rig.context()).go()
    box.faults.clear()
    whole.engine.dispose()
    again = revive(box, url)
    again.start = rig.start
    assert again.sync().exit == 0
    again.check()
    assert bool(box.segment.duplicates) is (killer.struck and done and api == "segment")
    again.close()

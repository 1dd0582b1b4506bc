"""The connector as a process of its own, pointed at a sandbox that this process serves on loopback."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

from connector.sandbox import Company, Served, environment
from connector.state.engine import Database, open_database
from tests.docs.json_schemas import violations
from tests.events.recording import keep
from tests.harness import expected, landed
from tests.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
SMALL = Company(posts=12, requests=6, days=40, activity=0.4, nps_per_day=1.0)
LONGEST = 60.0


def made_up(company: Company = SMALL, **options: Any) -> Sandbox:
    """A sandbox whose time stands still at this machine's, and which does not slow anybody down."""
    sandbox = Sandbox(company, now=datetime.now(UTC).replace(microsecond=0), **options)
    sandbox.switches.rate_limit = None
    return sandbox


@dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    @property
    def connection(self) -> dict[str, Any]:
        """The only connection's part of it."""
        (found,) = self.json["connections"]
        assert isinstance(found, dict)
        return found


@dataclass
class Machine:
    """One machine with a minimal environment; `here` is its disk."""

    sandbox: Sandbox
    served: Served
    here: Path
    database_url: str | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def start(self) -> datetime:
        return self.sandbox.now().replace(hour=0, minute=0, second=0) - timedelta(days=30)

    def environment(self) -> dict[str, str]:
        found = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.here),
            "XDG_STATE_HOME": str(self.here / "state"),
            "BEAMER_START_DATE": self.start.isoformat(),
            "BEAMER_REQUESTS_PER_SECOND": "1000",
            **environment(self.served, self.sandbox),
            **({"DATABASE_URL": self.database_url} if self.database_url else {}),
            **self.extra,
        }
        return {name: value for name, value in found.items() if value}

    def begin(self, *words: str, **options: Any) -> "Running":
        """Start `beamer-segment` with these words."""
        return Running(
            subprocess.Popen(
                [sys.executable, "-m", "connector", *words],
                **{
                    "stdout": subprocess.PIPE,
                    "stderr": subprocess.PIPE,
                    "stdin": subprocess.DEVNULL,
                    **options,
                },
                cwd=ROOT,
                env=self.environment(),
                text=True,
            )
        )

    def run(self, *words: str, **options: Any) -> Ended:
        before = len(self.sandbox.segment.received)
        ended = self.begin(*words, **options).end()
        if "json" in words and (ended.out or "").startswith('{"command": '):
            assert not [*violations(ended.json)], words
        keep(self.sandbox.segment.received[before:])
        return ended

    @property
    def file(self) -> Path:
        """Where the database is, if no DATABASE_URL says otherwise."""
        return self.here / "state" / "beamer-segment" / "state.sqlite"

    def database(self) -> Database:
        """The database, for looking at it and for planting what no run leaves behind; to be closed."""
        return open_database(self.database_url or f"sqlite:///{self.file}")

    # --- what is seen of it from outside ---

    def asked(self, api: str = "beamer") -> int:
        """How many requests an API has seen."""
        return sum(seen.api == api for seen in list(self.sandbox.requests))

    def all_there_once(self) -> None:
        """Every row's event is at Segment, once, and no row ever had two messageIds."""
        found, due = landed(self.sandbox), expected(self.sandbox, self.start)
        assert due.keys() - found.keys() == set()
        assert {key: count for key, count in found.items() if count > 1} == {}
        ids: dict[tuple[str, str, str], set[str]] = {}
        for message in self.sandbox.segment.received:
            row = tuple(str(value) for name, value in message["properties"].items() if name.endswith("_id"))
            ids.setdefault((message["event"], message["timestamp"], str(row)), set()).add(
                message["messageId"]
            )
        assert [names for names in ids.values() if len(names) > 1] == []


@dataclass
class Running:
    """A process under way."""

    process: subprocess.Popen[str]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = LONGEST) -> Ended:
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return Ended(self.process.returncode, out, err)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for another process to come so far."""
    waiting = Event()
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        waiting.wait(0.005)
    raise AssertionError(f"This did not happen within {seconds} s.")

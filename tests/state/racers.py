"""Processes that do the same thing to one database at the same moment."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from connector.domain.budget import Limits
from connector.errors import Busy, NoBudget
from connector.state import leases, schema
from connector.state.engine import open_database
from connector.state.leases import Owner, this_process
from connector.state.ledger import Ledger
from tests.state.times import NOW

Racer = Callable[[str, Any], Any]


def race(racer: Racer, url: str, arguments: list[Any]) -> list[Any]:
    """Run one process for each argument, all at once; give what they return, or their errors' names."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(len(arguments)), context.SimpleQueue()
    runners = [
        context.Process(target=_run, args=(racer, url, argument, barrier, results)) for argument in arguments
    ]
    for runner in runners:
        runner.start()
    found = [results.get() for _ in runners]
    for runner in runners:
        runner.join(30)
    return found


def _run(racer: Racer, url: str, argument: Any, barrier: Barrier, results: Any) -> None:
    try:
        barrier.wait(60)
        results.put(racer(url, argument))
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")


def make_ready(url: str, rounds: int) -> str:
    """Open and migrate stores that do not exist yet."""
    for number in range(rounds):
        database = open_database(url.format(number))
        schema.ready(database, NOW)
        database.close()
    return "ready"


def take_lease(url: str, owner: Owner) -> int:
    """Take the lease for a process that lives on; 0 where somebody else has it."""
    database = open_database(url)
    try:
        return leases.acquire(database, "default", owner, NOW).token
    except Busy:
        return 0
    finally:
        database.close()


def take_and_leave(url: str, connection: str) -> int:
    """Take the lease and end without giving it back."""
    return leases.acquire(open_database(url), connection, this_process(), NOW).token


def spend(url: str, connection: str) -> list[float]:
    """Take requests until none is left; give the moments at which they may be sent."""
    database = open_database(url)
    ledger, moments = Ledger(database, "acct", connection, Limits(110, 10, 30, startup=1)), []
    try:
        while True:
            moments.append((ledger.take("comments", NOW).at - NOW).total_seconds())
    except NoBudget:
        return moments
    finally:
        database.close()


def hesitate(url: str, connection: str) -> str:
    """Take forty requests, and give every second one back."""
    database = open_database(url)
    ledger = Ledger(database, "acct", connection, Limits(None, 0, 30))
    for number in range(40):
        charge = ledger.take("comments", NOW)
        if number % 2:
            ledger.give_back(charge)
    database.close()
    return "gave back"

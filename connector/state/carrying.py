"""A ledger carried over to another name: Beamer counts an account's requests, whatever it is called here."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from connector.state.tables import accounts, connections, spends
from connector.state.writing import add, add_up

# Requests by day, connection and purpose.
Kept = dict[tuple[int, str, str], int]
Part = Sequence[tuple[tuple[int, str, str], int]]

_SHARING = select(func.count()).where(
    connections.c.account == bindparam("who"), connections.c.name != bindparam("mine")
)
_ACCOUNT = select(accounts).where(accounts.c.name == bindparam("who")).with_for_update()
_SPENDS = select(spends).where(spends.c.account == bindparam("who"))
_SHADOWS = select(spends).where(spends.c.connection == bindparam("shadow")).order_by(spends.c.account)


def shared(db: Connection, connection: str, account: str) -> bool:
    """Whether another connection draws on the account."""
    return bool(db.execute(_SHARING, {"who": account, "mine": connection}).scalar_one())


def carry(db: Connection, connection: str, old: str, new: str) -> None:
    """The connection draws on the account `new` from here on: what counts on `old` counts there, too.

    Where no other connection draws on `old`, it becomes part of `new`. Else both go on, and since they may
    be one account at Beamer, neither forgets what the other has spent: it stands there as a shadow, under
    no connection's name, until the last connection follows; then each request counts once.
    """
    # The row of `new` is there and locked before that of `old`, whoever moves: nobody waits in a circle.
    first = db.execute(select(accounts).where(accounts.c.name == old)).mappings().one_or_none()
    if first:
        add(db, accounts, [{**first, "name": new, "drawn": 0}])
    here, there = _locked(db, new), _locked(db, old)
    # Only now: on PostgreSQL another connection may just have left.
    stays = shared(db, connection, old)
    if here and there:
        merged = _merged(there, here, whole=not stays)
        db.execute(update(accounts).where(accounts.c.name == new).values(merged))
    if not stays:
        db.execute(delete(accounts).where(accounts.c.name == old))
    _write(db, _divided(connection, {name: _spends(db, name) for name in (old, new)}, old, new, stays=stays))
    if not stays:
        _rename_shadows(db, old, new)


def _rename_shadows(db: Connection, old: str, new: str) -> None:
    """What `old` has spent stands elsewhere as its shadow; it has become part of `new`, and so has that."""
    found = [{**row} for row in db.execute(_SHADOWS, {"shadow": _shadow(old)}).mappings()]
    add_up(db, spends, [{**row, "connection": _shadow(new)} for row in found], "requests")
    db.execute(delete(spends).where(spends.c.connection == _shadow(old)))


def _locked(db: Connection, account: str) -> dict[str, Any]:
    """Its row, which nobody else changes until the commit; empty where there is none."""
    found = db.execute(_ACCOUNT, {"who": account}).mappings().one_or_none()
    return {**found} if found else {}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """One row out of two, whose every value is the one that lets less through."""
    both = (old, new)
    granted = [each for each in both if each["level_at"] is not None]
    return {
        "next_at": max(each["next_at"] for each in both),
        "burst": min(each["burst"] for each in both),
        "closed_until": max((each["closed_until"] for each in both if each["closed_until"]), default=None),
        "refusals": max(each["refusals"] for each in both),
        "began_at": min(each["began_at"] for each in both),
        "level": min((each["level"] for each in granted), default=0.0),
        "level_at": max((each["level_at"] for each in granted), default=None),
        "drawn": new["drawn"] + (old["drawn"] if whole else 0),
    }


def _divided(
    connection: str, found: Mapping[str, Kept], old: str, new: str, *, stays: bool
) -> dict[str, Kept]:
    """What each of the two counts, once the connection has gone from the old one to the new one."""
    of_new, of_old = _shadow(new), _shadow(old)
    # All that is the old one's is looked at anew here: what was its shadow is over.
    there = [(key, count) for key, count in found[new].items() if key[1] != of_old]
    here = [(key, count) for key, count in found[old].items() if key[1] != of_new]
    if not stays:
        return {old: {}, new: _summed(there, here)}
    before = [(key, count) for key, count in found[old].items() if key[1] == of_new]
    mine = [(key, count) for key, count in here if key[1] == connection]
    rest = [(key, count) for key, count in here if key[1] != connection]
    return {
        old: _summed(rest, before, _as(of_new, mine)),
        new: _summed(there, mine, _as(of_old, rest)),
    }


def _shadow(account: str) -> str:
    """What stands for a connection there; no connection's name begins like this."""
    return f"@{account}"[:40]


def _as(who: str, kept: Part) -> Part:
    return [((day, who, purpose), count) for (day, _, purpose), count in kept]


def _summed(*parts: Part) -> Kept:
    """A count of nothing stays: it may say that nothing was spent elsewhere."""
    found: Kept = {}
    for key, count in chain.from_iterable(parts):
        found[key] = found.get(key, 0) + count
    return found


def _spends(db: Connection, account: str) -> Kept:
    found = db.execute(_SPENDS, {"who": account})
    return {(row.day, row.connection, row.purpose): row.requests for row in found}


def _write(db: Connection, found: Mapping[str, Kept]) -> None:
    db.execute(delete(spends).where(spends.c.account.in_(list(found))))
    rows = [
        {"account": account, "day": day, "connection": who, "purpose": purpose, "requests": requests}
        for account, kept in found.items()
        for (day, who, purpose), requests in kept.items()
    ]
    if rows:
        db.execute(insert(spends), rows)

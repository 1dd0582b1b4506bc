"""`forget`: a person is taken out of the store, and kept from coming back."""

from collections.abc import Iterable
from typing import Any

from typer import BadParameter

from connector.commands.session import Session
from connector.output import say
from connector.segment.identity import user_id
from connector.state import forgetting
from connector.state.engine import Store
from connector.state.forgetting import Erased
from connector.state.leases import still
from connector.state.owner import this_process
from connector.sync.judging.people import user_of_raw

REMAINS = """What remains, and why:
  Segment         has what was delivered. Delete it there (Settings > End User Privacy, or a regulation
                  SUPPRESS_WITH_DELETE by its Public API), and in the destinations it went to.
  Beamer          has its own rows. Delete the person there, or they stay in the account.
  this store      ids of rows, without user and text, so that nothing is sent twice; and a keyed digest of
                  the user id, so that no later sync brings the person back.
  copies          backups, and files that `db upgrade` left beside a SQLite store (*.before-*). PostgreSQL
                  keeps deleted rows in its files until it vacuums.
Rows without this user id cannot be told to be theirs, even if they hold the same address; nor can the title
of their feature request in a message that waits about somebody else's vote or comment."""


def form_of(given: str) -> str:
    """A user id as messages hold it."""
    user = user_id(given)
    if user is None:
        raise BadParameter("This is no user id; rows without one are never sent under it.")
    return user


def names_of(here: Session, store: Store, name: str | None) -> list[str]:
    """The connection that was named; else every one that is configured or has ever run."""
    if name is not None:
        return [here.settings.connection(name).name]
    configured = [connection.name for connection in here.settings.connections]
    return list(dict.fromkeys([*configured, *forgetting.names(store)]))


def forget(here: Session, store: Store, names: Iterable[str], user: str) -> list[dict[str, Any]]:
    """Forget a user in each connection; raises Busy where a run is at work."""
    return [_counted(name, _forget(here, store, name, user)) for name in names]


def _forget(here: Session, store: Store, name: str, user: str) -> Erased:
    with still(store, name, this_process(), here.clock) as (fence, _):
        return forgetting.erase(store, fence, user, lambda raw: user_of_raw(raw) == user, here.clock.now())


def _counted(name: str, erased: Erased) -> dict[str, Any]:
    return {
        "connection": name,
        "waiting_deleted": erased.waiting,
        "refused_deleted": erased.refused,
        "quarantined_deleted": erased.quarantined,
    }


def show(done: Iterable[dict[str, Any]]) -> None:
    """Say what was deleted, and what remains."""
    for each in done:
        say(
            f"{each['connection']}: deleted {each['waiting_deleted']} waiting and {each['refused_deleted']} "
            f"refused messages and {each['quarantined_deleted']} rows in quarantine; "
            "this user's rows are not sent any more."
        )
    say(REMAINS)

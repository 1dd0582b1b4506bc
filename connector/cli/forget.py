"""`forget`: deletes a person's rows, and prevents that later syncs send them."""

from typing import Annotated

import typer

from connector.cli.command import ConnectionName, Files, NewStore, Session, Yes, open_session, prints_result
from connector.cli.output import Result
from connector.segment.shaping import user_id
from connector.state import privacy
from connector.state.engine import Database
from connector.state.privacy import Erased
from connector.sync.rows.judging import user_of_raw
from connector.text import counted

app = typer.Typer(rich_markup_mode=None)

REMAINS = """What remains, and why:
  Segment        has the delivered events. Delete them there (Settings > End
                 User Privacy, or a regulation SUPPRESS_WITH_DELETE with its
                 Public API), and in the destinations that received them.
  Beamer         has its own rows. Delete the person there, or the rows stay
                 in the account.
  this database  keeps ids of rows, without user and text, so that nothing is
                 sent twice; and a keyed digest of the user id, so that no
                 later sync sends the person's rows.
  copies         are backups, and files that `db upgrade` left beside a SQLite
                 database (*.before-*). PostgreSQL keeps deleted rows in its
                 files until it vacuums.
Rows without this user id cannot be recognised, even if they contain the same
address; nor can the title of the person's feature request in a waiting message
about somebody else's vote or comment."""


@app.command()
@prints_result
def forget(
    files: Files,
    user: Annotated[str, typer.Option("--user-id", help="The userId that you gave to Beamer.")],
    connection: ConnectionName = None,
    yes: Yes = False,
    new_store: NewStore = False,
) -> Result:
    """Delete a person's waiting, refused and quarantined rows, and never send their rows again.

    Example: beamer-segment forget --user-id 4711
    """
    who = user_id(user)
    if who is None:
        raise typer.BadParameter("This is not a user id; rows without a user id are never sent under it.")
    session = open_session(*files, secrets=False)
    if not yes:
        typer.confirm("This cannot be undone. Continue?", abort=True, err=True)
    with session.database(new_store) as database:
        erased = {
            name: _erase(session, database, name, who) for name in _names(session, database, connection)
        }
    data = [
        {
            "connection": name,
            "waiting_deleted": counts.waiting,
            "refused_deleted": counts.refused,
            "quarantined_deleted": counts.quarantined,
        }
        for name, counts in erased.items()
    ]
    lines = [
        f"{name}: deleted {counted(counts.waiting, 'waiting message')}, "
        f"{counted(counts.refused, 'refused message')} and {counted(counts.quarantined, 'row')} in "
        "quarantine; rows of this user are no longer sent."
        for name, counts in erased.items()
    ]
    return Result({"connections": data}, [*lines, REMAINS])


def _names(session: Session, database: Database, name: str | None) -> list[str]:
    """Return the named connection; otherwise every one that is configured or has ever run."""
    configured = [connection.name for connection in session.named(name)]
    return configured if name else list(dict.fromkeys([*configured, *privacy.names(database)]))


def _erase(session: Session, database: Database, name: str, user: str) -> Erased:
    with session.alone_on(database, name) as (lease, _):
        return privacy.erase(database, lease, user, lambda raw: user_of_raw(raw) == user, session.clock.now())

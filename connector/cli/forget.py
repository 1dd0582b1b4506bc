"""`forget`: deletes a person's rows, and prevents that later syncs send them."""

from typing import Annotated, Any

import typer

from connector.cli.context import Session, open_session
from connector.cli.options import ConfigFile, ConnectionName, EnvFile, NewStore, OutputFormat, Yes
from connector.cli.output import Output, Result, render
from connector.segment.shaping import user_id
from connector.state import privacy
from connector.state.engine import Database
from connector.state.leases import holding_all, this_process
from connector.state.privacy import Erased
from connector.sync.rows.judging import user_of_raw

app = typer.Typer(rich_markup_mode=None)

REMAINS = """What remains, and why:
  Segment         has the delivered events. Delete them there (Settings > End User Privacy, or a regulation
                  SUPPRESS_WITH_DELETE with its Public API), and in the destinations that received them.
  Beamer          has its own rows. Delete the person there, or the rows stay in the account.
  this database   keeps ids of rows, without user and text, so that nothing is sent twice; and a keyed
                  digest of the user id, so that no later sync sends the person's rows.
  copies          are backups, and files that `db upgrade` left beside a SQLite database (*.before-*).
                  PostgreSQL keeps deleted rows in its files until it vacuums.
Rows without this user id cannot be recognised, even if they contain the same address; nor can the title of
the person's feature request in a waiting message about somebody else's vote or comment."""


@app.command()
def forget(
    user: Annotated[str, typer.Option("--user-id", help="The userId that you gave to Beamer.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Delete a person's waiting, refused and quarantined rows, and never send their rows again.

    Example: beamer-segment forget --user-id 4711
    """
    who = user_id(user)
    if who is None:
        raise typer.BadParameter("This is not a user id; rows without a user id are never sent under it.")
    session = open_session(config, env_file, secrets=False)
    if not yes:
        typer.confirm("This cannot be undone. Continue?", abort=True, err=True)
    with session.database(new_store) as database:
        erased = {
            name: _erase(session, database, name, who) for name in _names(session, database, connection)
        }
    data = {"connections": [_as_dict(name, counts) for name, counts in erased.items()]}
    lines = [_line(name, counts) for name, counts in erased.items()]
    render("forget", Result(data, [*lines, REMAINS]), output)


def _names(session: Session, database: Database, name: str | None) -> list[str]:
    """Return the named connection; otherwise every one that is configured or has ever run."""
    if name is not None:
        return [session.settings.connection(name).name]
    configured = [connection.name for connection in session.settings.connections]
    return list(dict.fromkeys([*configured, *privacy.names(database)]))


def _erase(session: Session, database: Database, name: str, user: str) -> Erased:
    with holding_all(database, name, this_process(), session.clock) as (lease, _):
        return privacy.erase(database, lease, user, lambda raw: user_of_raw(raw) == user, session.clock.now())


def _as_dict(name: str, erased: Erased) -> dict[str, Any]:
    return {
        "connection": name,
        "waiting_deleted": erased.waiting,
        "refused_deleted": erased.refused,
        "quarantined_deleted": erased.quarantined,
    }


def _line(name: str, erased: Erased) -> str:
    return (
        f"{name}: deleted {erased.waiting} waiting and {erased.refused} refused messages and "
        f"{erased.quarantined} rows in quarantine; rows of this user are no longer sent."
    )

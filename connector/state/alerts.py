"""Alerts: which word of health was last sent for each connection, and when; at most one an hour."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update

from connector.state.columns import EPOCH
from connector.state.dialects import add_new
from connector.state.engine import Database
from connector.state.tables import alerts

EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Alert:
    """The word that was sent, and when."""

    word: str
    sent_at: datetime = EPOCH

    def is_due(self, word: str, now: datetime) -> bool:
        """Return whether another word is to be sent; a clock that was set back delays nothing."""
        return word != self.word and not self.sent_at <= now < self.sent_at + EVERY


def claim(database: Database, connection: str, alert: Alert, at_first: str) -> Alert | None:
    """Store that an alert is being sent, and return the one before; None if it is not due.

    Before the first alert, `at_first` counts as sent. Of two processes, only one gets the alert.
    """
    values = {"word": alert.word, "sent_at": alert.sent_at}
    with database.write() as db:
        row = db.execute(select(alerts).where(alerts.c.connection == connection)).one_or_none()
        before = Alert(row.word, row.sent_at) if row else Alert(at_first)
        if not before.is_due(alert.word, alert.sent_at):
            return None
        if row is None:
            new = add_new(db, alerts, [{"connection": connection, **values}], alerts.c.connection)
            return before if new else None
    return before if _replace(database, connection, before, alert) else None


def give_back(database: Database, connection: str, alert: Alert, before: Alert) -> None:
    """Store that an alert could not be sent: the next run tries again."""
    _replace(database, connection, alert, before)


def _replace(database: Database, connection: str, old: Alert, new: Alert) -> bool:
    same = (alerts.c.word == old.word) & (alerts.c.sent_at == old.sent_at)
    where = (alerts.c.connection == connection) & same
    with database.write() as db:
        changed = db.execute(update(alerts).where(where).values(word=new.word, sent_at=new.sent_at))
    return changed.rowcount == 1

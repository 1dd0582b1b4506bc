"""The figures of a command's connections, for metrics."""

from collections.abc import Sequence

from connector import compose
from connector.commands.session import Session
from connector.config import Connection
from connector.service.metrics import Sample, of_store
from connector.state.engine import Store


def gather(here: Session, store: Store, chosen: Sequence[Connection]) -> list[Sample]:
    """As the store has them now."""
    return of_store(store, {each.name: compose.limits(each) for each in chosen}, here.clock.now())

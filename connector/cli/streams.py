"""`streams`: what each stream holds, whether the key may read it, and what it costs to check it."""

from collections.abc import Iterator, Sequence
from itertools import chain

import typer

from connector import compose
from connector.cli.command import ConnectionName, Files, open_readonly, prints_result
from connector.cli.output import Result, table_lines
from connector.cli.status import status_of
from connector.reporting.streams import StreamCost, stream_costs
from connector.text import counted

app = typer.Typer(rich_markup_mode=None)

COLUMNS = ("stream", "use", "rows", "counters", "key", "requests a poll")


@app.command()
@prints_result
def streams(files: Files, connection: ConnectionName = None) -> Result:
    """List the streams with their rows, counters, the key's permission, and the requests of a poll.

    A poll is a sync with nothing new. It reads each block of posts and feature requests once; their
    counters show new comments, reactions and votes. Each list that changed takes at least one request more.
    Streams are "sent", "off", or only "read", for the counters that other streams need.

    Example: beamer-segment streams --output json
    """
    session = open_readonly(*files)
    now, costs = session.clock.now(), dict[str, list[StreamCost]]()
    with session.existing() as database:
        for chosen in session.named(connection):
            status = status_of(database, chosen, now)
            policy = compose.policy(chosen, status.identity) if status.identity else None
            costs[chosen.name] = stream_costs(database, status, policy, chosen.streams, now)
    data = [
        {"connection": name, "streams": [stream.as_dict() for stream in of], "requests_a_poll": _a_poll(of)}
        for name, of in costs.items()
    ]
    return Result({"connections": data}, chain.from_iterable(_lines(*of) for of in costs.items()))


def _a_poll(streams: Sequence[StreamCost]) -> int:
    return sum(stream.polled or 0 for stream in streams)


def _lines(name: str, streams: Sequence[StreamCost]) -> Iterator[str]:
    yield from table_lines(f"Connection '{name}'", COLUMNS, map(_cells, streams))
    yield f"A poll takes {counted(_a_poll(streams), 'request')}, and more for lists whose counters changed."


def _cells(stream: StreamCost) -> tuple[str, ...]:
    trusted = stream.status.counters_trusted if stream.status else None
    counters = "–" if trusted is None else "trusted" if trusted else "untrusted"
    polled = "–" if stream.polled is None else f"{stream.polled:,}"
    return stream.name, stream.use, f"{stream.rows:,}", counters, stream.key, polled

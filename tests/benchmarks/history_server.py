"""A Beamer with years of history and a Segment, served by a process of their own for the backfill benchmark.

Reads a shape as JSON from its command line, prints the connector's settings as JSON, and answers each line
on standard input with what it has seen until then, as JSON; ends with its input.
"""

import gc
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from connector.sandbox import Company, Switches, environment
from tests.sandbox import Faults, Sandbox

# A connector refuses a Beamer whose clock is more than a day off.
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Shape:
    """So many posts with so many comments and reactions each, so many NPS responses, over two years.

    `latency` in seconds, after the limiter has counted; `rate` in requests and `events` in events to Segment
    per second, None without limit.
    """

    posts: int = 0
    comments: int = 0
    reactions: int = 0
    nps: int = 0
    latency: float = 0.0
    rate: int | None = None
    events: int | None = None

    @property
    def rows(self) -> int:
        return self.posts * (1 + self.comments + self.reactions) + self.nps

    @property
    def floor(self) -> int:
        """Pages that exist, one at least of each list, and the empty one behind a full one."""
        lists = [count for count in (self.comments, self.reactions) if count]
        children = self.posts * sum(count // 10 + 1 for count in lists)
        posts = -(-self.posts // 10) or 1
        return children + posts + (-(-self.nps // 100) or 1)


def filled(shape: Shape) -> Sandbox:
    switches = Switches(rate_limit=shape.rate)
    faults = Faults(latency=shape.latency)
    faults.apis = ("beamer",)
    sandbox = Sandbox(Company.empty(), switches=switches, faults=faults, plan="pro", now=NOW, speed=1.0)
    sandbox.segment.rate_limit = shape.events
    years = timedelta(days=730)

    def add(stream: str, parent: str | None, before: timedelta, number: int) -> str:
        date = (NOW - before).replace(microsecond=0)
        user = {"userId": f"u-{number % 5000}", "userEmail": f"u-{number % 5000}@example.com"}
        return sandbox.world.add(stream, parent, date=date, appears=date, **user)

    for number in range(shape.posts):
        age = years * ((number + 1) / (shape.posts + 1)) + timedelta(days=1)
        post = add("posts", None, age, number)
        for stream, count in (("comments", shape.comments), ("reactions", shape.reactions)):
            for child in range(count):
                add(stream, post, age * (1 - (child + 1) / (count + 1)), number * 31 + child)
    for number in range(shape.nps):
        add("nps", None, years * ((number + 1) / (shape.nps + 1)) + timedelta(hours=1), number)
    return sandbox


def seen(sandbox: Sandbox) -> dict[str, object]:
    beamer = [each for each in sandbox.requests if each.api == "beamer"]
    return {
        "beamer": len(beamer),
        "statuses": {str(status): count for status, count in Counter(each.status for each in beamer).items()},
        "at": [each.at.timestamp() for each in beamer],
        "repeated": sum(
            count - 1
            for count in Counter((each.path, *sorted(each.params.items())) for each in beamer).values()
        ),
        "refused": sum(each.status == 429 for each in sandbox.requests if each.api == "segment"),
        "events": len(sandbox.segment.messages),
        "ids": len({message["messageId"] for message in sandbox.segment.messages}),
        "doubles": len(sandbox.segment.duplicates),
    }


def main() -> None:
    # What arrives is to be seen when it does, also while a batch for Segment is being judged.
    sys.setswitchinterval(0.0005)
    shape = Shape(**json.loads(sys.argv[1]))
    sandbox = filled(shape)
    # Going through years of history again and again would hold everything up for a tenth of a second.
    gc.collect()
    gc.freeze()
    gc.disable()
    with sandbox.serve() as served:
        sys.stdout.write(json.dumps({**environment(served, sandbox), "shape": asdict(shape)}) + "\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            sys.stdout.write(json.dumps(seen(sandbox)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

"""`schedule` as the command starts it, but by a clock that runs as fast as the sandboxes'.

`python -m tests.soak.daemon START SPEED SINCE`: at SINCE of the monotonic clock it was START.
"""

import sys
from datetime import datetime

from connector.commands.scheduling import schedule
from connector.commands.session import begin
from connector.ending import run
from tests.soak.clock import FastClock


def main(start: str, speed: str, since: str) -> None:
    here = begin(None, None, secrets=True)
    here.clock = FastClock(datetime.fromisoformat(start), float(speed), float(since))
    schedule(here, here.chosen(None, every=True))


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]), ["schedule"])

"""`schedule` as the command starts it, but by a clock that runs as fast as the sandboxes'.

`python -m tests.soak.daemon START SPEED SINCE`: at SINCE of the monotonic clock it was START.
"""

import sys
from datetime import datetime

from connector.cli.command import open_session
from connector.cli.exit_codes import run
from connector.cli.schedule import run_daemon
from tests.soak.clock import FastClock


def main(start: str, speed: str, since: str) -> None:
    here = open_session(None, None)
    here.clock = FastClock(datetime.fromisoformat(start), float(speed), float(since))
    run_daemon(here, here.chosen(None, every=True))


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]), ["schedule"])

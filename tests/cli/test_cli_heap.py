"""The C library's heap: what was freed in it is given back."""

import subprocess
import sys

import pytest

# Buffers of a page's size come and go, each beside something small that stays, in threads that end.
FRAGMENTED = """
import sys, threading
from pathlib import Path
from connector import heap

if "small" in sys.argv:
    heap.keep_small()
kept = []

def work():
    for _ in range(40):
        pages = [bytes(48 * 1024) for _ in range(30)]
        kept.append(bytes(700))

for _ in range(6):
    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
if "small" in sys.argv:
    heap.give_back()
print(int(Path("/proc/self/statm").read_text().split()[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells the size of a process by /proc")
def test_threads_leave_no_holes_behind() -> None:
    def pages(*words: str) -> int:
        command = [sys.executable, "-c", FRAGMENTED, *words]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert pages("small") < 0.8 * pages()

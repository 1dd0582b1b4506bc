"""The real connector over simulated time, network, crashes and overlapping runs: one seed decides everything.

`python -m tests.simulation --seeds 5000` runs it; `--seed N` shows one life line by line.
"""

"""Stories of lives that went wrong, shrunk, by what was broken: a mutant's name, or a fault that was mended.

Each goes well with the connector as it is. `python -m tests.simulation.mutants NAME --shrink` makes another
of a mutant.
"""

from datetime import timedelta

from tests.simulation.story import Story

STORIES = {
    "redirect": Story(
        wrong="model: default feature_requests 5001 is neither queued nor at Segment; it was new",
        settings={
            "company.requests": 1,
            "company.days": 1,
        },
        events={
            "sync 8": timedelta(seconds=1),
            "sync 8, run 1, batch 1": "redirect",
        },
    ),
    "not-fenced": Story(
        wrong="sync 1, run 1 wrote ['spend'] though it had lost its lease",
        events={
            "sync 1": timedelta(0),
            "sync 1 of default overlaps": (
                "default",
                "before Beamer's request",
                1,
                timedelta(seconds=60),
                False,
            ),
        },
    ),
    "no-lookback": Story(
        wrong="lost in quiet: default: nps 69a38187000100001dcd6501 of 26 02:20:20 (1 in all)",
        settings={
            "company.seed": 1,
            "company.days": 3,
            "company.activity": 0.1,
            "company.nps_per_day": 2.0,
            "members.0.days": 3,
            "members.0.lookback": timedelta(seconds=3),
        },
        events={
            "sync 12": timedelta(seconds=1),
            "sync 13": timedelta(seconds=7),
            "happening 1 before sync 13": ("late", "nps", None, 0.5),
        },
    ),
}

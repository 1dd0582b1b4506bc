"""The made-up company whose Beamer account the sandbox serves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Company:
    """What the company is like: all of its history follows from these figures."""

    seed: int = 7
    posts: int = 60
    requests: int = 30
    days: int = 120
    activity: float = 1.0
    quiet: bool = False
    posts_per_day: float = 0.4
    requests_per_day: float = 0.3
    nps_per_day: float = 4.0
    people: int = 400
    late: float = 0.02
    deletions: float = 0.01
    hidden: float = 0.0
    """Share of comments and reactions that no list shows, though a page may be cut around them."""
    visitors: float = 0.0
    """Share of reactions by visitors who are not logged in, as on a public site."""

    @property
    def still(self) -> bool:
        """Whether nothing new happens by itself after the start."""
        return self.quiet or self.activity == 0

    @classmethod
    def empty(cls, seed: int = 7) -> "Company":
        """A company without content, to which a test adds every row by hand."""
        return cls(seed=seed, posts=0, requests=0, days=0, activity=0.0, quiet=True)

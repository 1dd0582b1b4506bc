"""Faults on purpose: scripted answers, resets, delays."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from connector.sandbox.message import Answer, Api, Request

Step = str | int | tuple[Any, ...] | Callable[[Request], Answer | None]
Predicate = Callable[[Request], bool]
CHANCES = (
    *("status_500", "html_502", "html_200", "truncated", "redirect", "busy"),
    *("reset_before", "reset_after", "hang", "trickle"),
)


@dataclass
class Faults:
    """Probabilities a request, and scripts that go before them and are used up step by step.

    A step is 'ok', a status, the name of a chance, 'hang_before', ('busy', n), ('latency', seconds),
    ('answer', status, body, headers), or a function that may meddle with the world before the request
    is answered and may answer it itself.
    """

    seed: int = 7
    status_500: float = 0.0
    html_502: float = 0.0
    html_200: float = 0.0
    truncated: float = 0.0
    redirect: float = 0.0
    busy: float = 0.0
    busy_for: int = 5
    """Requests answered 429 in one burst."""
    reset_before: float = 0.0
    reset_after: float = 0.0
    hang: float = 0.0
    trickle: float = 0.0
    latency: float | tuple[float, float] = 0.0
    sleep: Callable[[float], None] | None = None
    """How latency passes in process; without it, it does not."""
    hang_seconds: float = 30.0
    trickle_seconds: float = 0.2
    """Between two bytes."""
    apis: tuple[Api, ...] = ("beamer", "segment")
    _scripts: dict[str, deque[Step]] = field(default_factory=dict, repr=False)
    _watched: list[tuple[Predicate, deque[Step]]] = field(default_factory=list, repr=False)
    _rng: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)

    def script(self, api: Api, steps: Sequence[Step]) -> None:
        """Queue steps for the next requests to an API."""
        self._scripts.setdefault(api, deque()).extend(_spread(steps))

    def on(self, predicate: Predicate, steps: Sequence[Step]) -> None:
        """Queue steps for the next requests that a predicate picks; these go before `script`."""
        self._watched.append((predicate, deque(_spread(steps))))

    def clear(self) -> None:
        """Drop all scripts and set all chances to nought."""
        self._scripts.clear()
        self._watched.clear()
        self.latency = 0.0
        for name in CHANCES:
            setattr(self, name, 0.0)

    def next(self, request: Request) -> Step:
        """What happens to this request."""
        for predicate, steps in self._watched:
            if steps and predicate(request):
                return steps.popleft()
        if self._scripts.get(request.api):
            return self._scripts[request.api].popleft()
        if request.api not in self.apis:
            return "ok"
        for name in CHANCES:
            chance = getattr(self, name)
            if chance and self._rng.random() < chance:
                return self._begun(name, request.api)
        return "ok"

    def _begun(self, name: str, api: Api) -> Step:
        if name == "busy":
            self.script(api, ["busy"] * (self.busy_for - 1))
        return name

    def delay(self, request: Request) -> float:
        """Seconds that this answer takes."""
        if request.api not in self.apis or not self.latency:
            return 0.0
        return self.latency if isinstance(self.latency, int | float) else self._rng.uniform(*self.latency)


def _spread(steps: Sequence[Step]) -> list[Step]:
    spread: list[Step] = []
    for step in steps:
        spread += ["busy"] * step[1] if isinstance(step, tuple) and step[0] == "busy" else [step]
    return spread

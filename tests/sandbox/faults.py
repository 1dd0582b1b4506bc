"""Faults on purpose: scripted answers, random failures, delays, and connections that break."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from connector.sandbox import Answer, Api, Request
from connector.sandbox.account import text_answer
from connector.sandbox.segment_api import error_answer

Step = str | int | tuple[Any, ...] | Callable[[Request], Answer | None]
Predicate = Callable[[Request], bool]
Perform = Callable[[Request], Answer]
Mishap = Literal["", "reset", "hang", "trickle"]
CHANCES = (
    *("status_500", "html_502", "html_200", "truncated", "redirect", "busy"),
    *("reset_before", "reset_after", "hang", "trickle"),
)
HTML = {"Content-Type": "text/html; charset=utf-8"}


@dataclass
class Faults:
    """The probability of each fault per request, and scripts, whose steps come first and are used once.

    A step is 'ok', a status, the name of a chance, 'hang_before', ('busy', n), ('latency', seconds),
    ('answer', status, body, headers), or a function. The function may change the world before the request
    is answered, and it may return the answer itself.
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
    """How latency passes without sockets; by default it does not."""
    hang_seconds: float = 30.0
    trickle_seconds: float = 0.2
    """Between two bytes."""
    apis: tuple[Api, ...] = ("beamer", "segment")
    _scripts: dict[str, deque[Step]] = field(default_factory=dict, repr=False)
    _filtered: list[tuple[Predicate, deque[Step]]] = field(default_factory=list, repr=False)
    _rng: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)

    def script(self, api: Api, steps: Sequence[Step]) -> None:
        """Queue steps for the next requests to an API."""
        self._scripts.setdefault(api, deque()).extend(_expanded(steps))

    def on(self, predicate: Predicate, steps: Sequence[Step]) -> None:
        """Queue steps for the next requests that a predicate selects; these come before `script`."""
        self._filtered.append((predicate, deque(_expanded(steps))))

    def clear(self) -> None:
        """Remove all scripts and set all probabilities to zero."""
        self._scripts.clear()
        self._filtered.clear()
        self.latency = 0.0
        for name in CHANCES:
            setattr(self, name, 0.0)

    def next(self, request: Request) -> Step:
        """Return what happens to this request."""
        for predicate, steps in self._filtered:
            if steps and predicate(request):
                return steps.popleft()
        if self._scripts.get(request.api):
            return self._scripts[request.api].popleft()
        if request.api not in self.apis:
            return "ok"
        for name in CHANCES:
            chance = getattr(self, name)
            if chance and self._rng.random() < chance:
                if name == "busy":
                    self.script(request.api, ["busy"] * (self.busy_for - 1))
                return name
        return "ok"

    def delay(self, request: Request) -> float:
        """Return the seconds that this answer takes."""
        if request.api not in self.apis or not self.latency:
            return 0.0
        return self.latency if isinstance(self.latency, int | float) else self._rng.uniform(*self.latency)


def _expanded(steps: Sequence[Step]) -> list[Step]:
    expanded: list[Step] = []
    for step in steps:
        expanded += ["busy"] * step[1] if isinstance(step, tuple) and step[0] == "busy" else [step]
    return expanded


@dataclass
class FaultyAnswer(Answer):
    """An answer, and what goes wrong while it is sent; status 0: broken off before any work."""

    mishap: Mishap = ""
    delay: float = 0.0


def faulty(answer: Answer) -> FaultyAnswer:
    """Return the answer as one that can go wrong."""
    if isinstance(answer, FaultyAnswer):
        return answer
    return FaultyAnswer(answer.status, answer.body, answer.headers)


def apply(step: Step, request: Request, perform: Perform, fail: Callable[[int], Answer]) -> FaultyAnswer:
    """Return the answer to a request to which a step happens.

    `perform` does the work; `fail` checks the key and the limits and then fails with a status.
    """
    if callable(step):
        return faulty(step(request) or perform(request))
    if isinstance(step, int):
        return faulty(fail(step))
    if isinstance(step, tuple):
        return _apply_tuple(step, request, perform)
    if step in _INSTEAD:
        return _INSTEAD[step](request)
    if step in ("status_500", "busy"):
        return faulty(fail(500 if step == "status_500" else 429))
    return _apply_afterwards(step, faulty(perform(request)))


def _apply_tuple(step: tuple[object, ...], request: Request, perform: Perform) -> FaultyAnswer:
    if step[0] == "latency":
        answer = faulty(perform(request))
        answer.delay = float(str(step[1]))
        return answer
    if step[0] != "answer":
        raise ValueError(f"Unknown fault {step!r}")
    status, body, headers = (*step[1:], *(b"", {})[len(step) - 2 :])[:3]
    data = body.encode() if isinstance(body, str) else body
    if not (isinstance(status, int) and isinstance(data, bytes) and isinstance(headers, dict)):
        raise TypeError(f"Not an answer: {step!r}")
    return FaultyAnswer(status, data, dict(headers))


def _apply_afterwards(step: str, answer: FaultyAnswer) -> FaultyAnswer:
    if step == "truncated":
        answer.body = answer.body[: max(1, len(answer.body) // 2)]
    elif step == "reset_after":
        answer.mishap = "reset"
    elif step == "hang":
        answer.mishap = "hang"
    elif step == "trickle":
        answer.mishap = "trickle"
    elif step != "ok":
        raise ValueError(f"Unknown fault {step!r}")
    return answer


def _redirect(request: Request) -> FaultyAnswer:
    return FaultyAnswer(302, b"", {"Location": f"/elsewhere/{request.api}", **HTML})


def _html_page(status: int) -> Callable[[Request], FaultyAnswer]:
    return lambda _: FaultyAnswer(status, b"<html><body>Something is wrong here.</body></html>", dict(HTML))


_INSTEAD: dict[str, Callable[[Request], FaultyAnswer]] = {
    "reset_before": lambda _: FaultyAnswer(0, mishap="reset"),
    "hang_before": lambda _: FaultyAnswer(0, mishap="hang"),
    "html_502": _html_page(502),
    "html_200": _html_page(200),
    "redirect": _redirect,
}


def failure(api: Api, status: int) -> Answer:
    """Return a failure in the API's own words."""
    if api == "beamer":
        return text_answer(
            status, "Something went wrong on our side." if status >= 500 else f"Error {status}."
        )
    answer = error_answer(status, "error", f"Error {status}.")
    if status == 429:
        answer.headers["Retry-After"] = "1"
    return answer


def redirect_target(api: Api) -> FaultyAnswer:
    """Return what a redirecting proxy shows at the address that it redirects to."""
    body = b"[]" if api == "beamer" else b'{"success": true}'
    return FaultyAnswer(200, body, {"Content-Type": "application/json"})

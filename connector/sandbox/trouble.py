"""One step of a fault script, acted out."""

from collections.abc import Callable

from connector.sandbox.beamer_api import said
from connector.sandbox.faults import Step
from connector.sandbox.message import Answer, Api, Request
from connector.sandbox.segment_api import refusal

HTML = {"Content-Type": "text/html; charset=utf-8"}
Perform = Callable[[Request], Answer]


def act(step: Step, request: Request, perform: Perform, fail: Callable[[int], Answer]) -> Answer:
    """The answer to a request to which a step happens.

    `perform` does the work; `fail` passes the gate and then fails with a status.
    """
    if callable(step):
        return step(request) or perform(request)
    if isinstance(step, int):
        return fail(step)
    if isinstance(step, tuple):
        return _told(step, request, perform)
    if step in _BEFORE:
        return _BEFORE[step](request)
    if step in ("status_500", "busy"):
        return fail(500 if step == "status_500" else 429)
    return _after(step, perform(request))


def _told(step: tuple[object, ...], request: Request, perform: Perform) -> Answer:
    if step[0] == "latency":
        answer = perform(request)
        answer.delay = float(str(step[1]))
        return answer
    if step[0] != "answer":
        raise ValueError(f"Unknown fault {step!r}")
    status, body, headers = (*step[1:], *(b"", {})[len(step) - 2 :])[:3]
    data = body.encode() if isinstance(body, str) else body
    if not (isinstance(status, int) and isinstance(data, bytes) and isinstance(headers, dict)):
        raise TypeError(f"Not an answer: {step!r}")
    return Answer(status, data, dict(headers))


def _after(step: str, answer: Answer) -> Answer:
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


def _elsewhere(request: Request) -> Answer:
    return Answer(302, b"", {"Location": f"/elsewhere/{request.api}", **HTML})


def _page(status: int) -> Callable[[Request], Answer]:
    return lambda _: Answer(status, b"<html><body>Something is wrong here.</body></html>", dict(HTML))


_BEFORE: dict[str, Callable[[Request], Answer]] = {
    "reset_before": lambda _: Answer(0, mishap="reset"),
    "hang_before": lambda _: Answer(0, mishap="hang"),
    "html_502": _page(502),
    "html_200": _page(200),
    "redirect": _elsewhere,
}


def failed(api: Api, status: int) -> Answer:
    """An API's own words for a failure."""
    if api == "beamer":
        return said(status, "Something went wrong on our side." if status >= 500 else f"Error {status}.")
    answer = refusal(status, "error", f"Error {status}.")
    if status == 429:
        answer.headers["Retry-After"] = "1"
    return answer


def arrived(api: Api) -> Answer:
    """What a redirecting proxy shows at the other end."""
    return Answer(
        200, b"[]" if api == "beamer" else b'{"success": true}', {"Content-Type": "application/json"}
    )

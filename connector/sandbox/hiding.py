"""Which rows a list leaves out: segmentation, visibility, search."""

from collections.abc import Callable, Mapping

from connector.sandbox.content import title_of
from connector.sandbox.parameters import is_true
from connector.sandbox.row import Row, seconds

NOT_FILTERS = {
    *("dateFrom", "dateTo", "maxResults", "page", "saveViews", "traceableLinks", "ignoreRequestDetails"),
    *("userFirstName", "userLastName", "userEmail"),
}
Keep = Callable[[Row], bool]
PLAIN = {"category": "category", "status": "status", "reaction": "reaction", "filters": "filters"}
BOOLEAN = {"published": "true", "archived": "false", "visible": "true"}


def key(params: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What of a query decides which rows are kept."""
    return tuple(sorted((name, value) for name, value in params.items() if name not in NOT_FILTERS))


def keeps(stream: str, params: Mapping[str, str], now: float) -> Keep:
    """A predicate for one query."""
    tests: list[Keep] = [lambda row: not row.hidden]
    if stream == "posts" and not is_true(params, "ignoreFilters"):
        tests.append(lambda row: _segment(row, params.get("filter", ""), params.get("forceFilter", "")))
    for name, value in params.items():
        test = _test(name, value.lower(), now)
        if test:
            tests.append(test)
    return lambda row: all(test(row) for test in tests)


def _segment(row: Row, wanted: str, forced: str) -> bool:
    segments = [part for part in str(row.fields.get("filter") or "").split(";") if part]
    if forced:
        return forced in segments
    return not segments or wanted in segments


def _test(name: str, value: str, now: float) -> Keep | None:
    if name in PLAIN:
        return lambda row: str(row.fields.get(PLAIN[name], "")).lower() == value
    if name in BOOLEAN:
        return lambda row: str(row.fields.get(name, BOOLEAN[name])).lower() == value
    if name == "expired":
        return lambda row: str(_expired(row, now)).lower() == value
    if name == "search":
        return lambda row: value in _words(row).lower()
    if name == "language":
        return lambda row: value in _languages(row)
    if name in ("scoreFrom", "scoreTo"):
        sign = 1 if name == "scoreFrom" else -1
        return lambda row: sign * int(row.fields["score"]) >= sign * int(value)
    return None


def _expired(row: Row, now: float) -> bool:
    due = row.fields.get("dueDate")
    return seconds(due) < now if due else False


def _words(row: Row) -> str:
    return " ".join(str(row.fields.get(name) or "") for name in ("text", "feedback")) + title_of(row)


def _languages(row: Row) -> list[str]:
    translations = row.fields.get("translations")
    return [part["language"].lower() for part in translations] if translations else ["en"]

"""A sample: one page of each stream, as a run would read it; only the requests are stored."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connector.beamer.pagination import BeamerRequest, Cursor, Habits, params_of
from connector.beamer.streams import Stream
from connector.domain.state import Effects, Outgoing
from connector.errors import BadAnswer, ConnectorError, Exit, KeyRefused, NoBudget, Stopped, Transient
from connector.state.connections import Identity
from connector.sync.account_check import Get
from connector.sync.lists import counters
from connector.sync.planning import candidates
from connector.sync.planning.probes import NO_PARENT
from connector.sync.policy import Policy
from connector.sync.rows.pages import PageVerdicts, enqueue, judge_page


@dataclass(frozen=True, slots=True)
class SampledPage:
    """One page of a stream, of the list of `parent` if it has parents, and the events of its rows.

    `excluded` counts rows by reason, `invalid` those for the quarantine, `early` those that are older than
    the start date or not ready. `error`: why no page was read, with its `exit` code.
    """

    stream: str
    parent: str | None = None
    rows: int = 0
    events: Sequence[Outgoing] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    invalid: int = 0
    early: int = 0
    error: str | None = None
    exit: Exit = Exit.DONE

    def as_dict(self) -> dict[str, Any]:
        return {
            "stream": self.stream,
            "parent": self.parent,
            "rows": self.rows,
            "events": len(self.events),
            "excluded": dict(self.excluded),
            "quarantined": self.invalid,
            "too_old_or_not_ready": self.early,
            "error": self.error,
        }


def sample(
    get: Get, catalogue: Mapping[str, Stream], identity: Identity, policy: Policy, now: datetime
) -> Iterator[SampledPage]:
    """Read one page of each stream that is sent, and of those that list their parents; one request each.

    Of the children, it reads the list of the first parent whose counter is above zero. Stops if no request
    is available or Beamer cannot be reached; raises KeyRefused.
    """
    pages: dict[str, PageVerdicts] = {}
    for stream in candidates.wanted(catalogue, policy):
        parent, title = _parent_of(stream, pages.get(stream.parent or ""))
        if parent is None:
            why = f"No post or feature request with rows is on the first page of {stream.parent}."
            yield SampledPage(stream.name, error=why)
            continue
        try:
            answer = get(stream.name, _request(stream, parent, identity, policy))
            if not isinstance(answer.body, list):
                raise BadAnswer("The answer is not a list.")
        except (KeyRefused, Stopped):
            raise
        except ConnectorError as error:
            ends = isinstance(error, NoBudget | Transient)
            code = error.exit if ends else Exit.DONE
            yield SampledPage(stream.name, _shown(parent), error=error.what, exit=code)
            if ends:
                return
            continue
        pages[stream.name] = page = judge_page(answer.body, stream, policy, answer.date or now)
        yield _sampled(stream, parent, page, policy, now, title)


def _shown(parent: str) -> str | None:
    return None if parent == NO_PARENT else parent


def _request(stream: Stream, parent: str, identity: Identity, policy: Policy) -> BeamerRequest:
    params = {**stream.params, **params_of(Cursor(), Habits(first_page=identity.first_page), stream.cap)}
    filters = identity.ignore_filters if policy.ignore_filters is None else policy.ignore_filters
    if stream.filtered and filters:
        params["ignoreFilters"] = "true"
    return BeamerRequest(stream.path_for(parent), tuple(params.items()))


def _parent_of(stream: Stream, page: PageVerdicts | None) -> tuple[str | None, str | None]:
    """Return id and title of a page's first parent whose counter of this stream is above zero."""
    if stream.parent is None:
        return NO_PARENT, None
    rows = page.rows if page else {}
    for name, (row, raw) in rows.items():
        if counters.total(counters.read(raw, stream.counters)):
            return name, row.fields.get("title")
    return None, None


def _sampled(
    stream: Stream, parent: str, page: PageVerdicts, policy: Policy, now: datetime, title: str | None
) -> SampledPage:
    effects, ids = Effects(), set(page.rows)
    enqueue(effects, page.events(ids), stream, parent, policy, now, title)
    return SampledPage(
        stream.name,
        _shown(parent),
        page.seen.count,
        tuple(reversed(effects.events)),
        Counter(verdict.label for verdict in page.unsent(ids)),
        len(page.rejected) + len(effects.rejected),
        len(ids) - len(page.row_verdicts),
    )

"""The users of a Beamer account: read once a day, after everything else, and sent as `identify`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from connector.beamer.pagination import BeamerRequest, Habits, Order, order_of
from connector.beamer.streams import CATALOGUE, USERS, USERS_CAP, USERS_PATH, profile_of
from connector.errors import BadAnswer, Busy, ConnectorError, Forbidden, NoBudget, NotSent, Stopped
from connector.segment.shaping import identify, traits_of, user_id
from connector.state import users
from connector.state.leases import Lease
from connector.state.users import Reading, Seen
from connector.sync.account_check import answer_to
from connector.sync.context import RunContext
from connector.sync.report import Report
from connector.sync.rows.pages import finished

log = structlog.get_logger()

NOT_ALLOWED = (
    "Beamer answered 403: BEAMER_IDENTIFY needs the Scale plan and a key that may read users; the streams "
    "are not affected, and the users are requested again tomorrow"
)


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page: the number of rows, when its users were last seen, in its order, and their fields."""

    rows: int
    visits: Sequence[datetime]
    profiles: Mapping[Seen, Mapping[str, Any]]


def parse_page(body: Any, context: RunContext, done: set[str]) -> UserPage:
    """Parse a page; skip users without id, forgotten ones and those in `done`, and add the others to it."""
    if not isinstance(body, list):
        raise BadAnswer("Beamer's answer is not a list of users")
    visits, profiles = list[datetime](), dict[Seen, Mapping[str, Any]]()
    for profile in filter(None, map(profile_of, body)):
        if profile["last_seen"]:
            visits.append(profile["last_seen"])
        user = user_id(profile["user_id"])
        # A user may be listed once for each device; the first row is the latest.
        if user is not None and user not in context.policy.forgotten and user not in done:
            done.add(user)
            profiles[Seen(user, _same(profile, context.policy.naming.destination))] = profile
    return UserPage(len(body), visits, profiles)


def _same(profile: Mapping[str, Any], destination: str) -> str:
    """Return a text that is equal as long as nothing is to be sent: of the last visit only the day.

    With the time, each visit would be a message. The number of users that Segment bills stays the same.
    """
    visit = profile["last_seen"]
    traits = traits_of({**profile, "last_seen": visit and visit.replace(hour=0, minute=0, second=0)})
    return json.dumps([destination, traits], sort_keys=True)


def after(
    before: Reading, page: UserPage, now: datetime, *, changed: bool, repeated: bool, second: int
) -> Reading:
    """Return how far the users are read after a page; `second` is the number of the second page.

    If no user changed and all visits are older than the last complete reading, nothing new follows.
    """
    newest = before.newest or max(page.visits, default=before.through)
    in_order = order_of(page.visits) in (Order.NEWEST, Order.UNKNOWN)
    oldest = min(page.visits, default=None)
    known = not changed and in_order and oldest and before.through and oldest < before.through
    # If pages are counted from 1, page 1 is the first page again.
    if known or page.rows == 0 or (repeated and before.page != 1):
        return Reading(tried_at=now, through=newest)
    return replace(before, newest=newest, page=before.page + 1 if before.page else second)


@dataclass(frozen=True, slots=True)
class UserReader:
    """Reads the users in one run, under its lease. `accepted` is called after each page."""

    context: RunContext
    lease: Lease
    report: Report
    most_requests: int | None = None
    accepted: Callable[[Report], None] = lambda _: None

    def run(self, now: datetime) -> None:
        """Send the users seen since the last reading, at most one reading a UTC day; `now` is Beamer's.

        A failure ends only this reading. A run of only some streams reads no users.
        """
        if not self.context.policy.identify or set(self.context.catalogue) < set(CATALOGUE):
            return
        state = users.reading(self.context.database, self.lease.connection)
        if state.tried_at and state.tried_at.date() == now.date():
            return
        done, last = set[str](), None
        # The next sync continues here.
        for _ in range(self.context.constants.most_pages):
            if not self._may_request():
                return
            try:
                body = self._request(state.page)
                page = parse_page(body, self.context, done)
            except Busy:
                raise
            except (NoBudget, NotSent, Stopped):
                return
            except ConnectorError as error:
                self._give_up(error, state, now)
                return
            state = self._accept(page, state, now, repeated=body == last)
            if not state.page:
                return
            last = body

    def _may_request(self) -> bool:
        """Return whether requests are to spare: of a limited month a day's requests must be left."""
        context, report = self.context, self.report
        if report.stopped or report.saving or report.has_spent(self.most_requests) or context.clock.stopped:
            return False
        balance = context.ledger.balance(context.clock.now())
        return balance.level is None or balance.level - (balance.per_day or 0.0) >= 1

    def _request(self, page: int) -> Any:
        context, report = self.context, self.report
        params = {"sort": "-lastSeen", "maxResults": str(USERS_CAP), **({"page": str(page)} if page else {})}
        request = BeamerRequest(USERS_PATH, tuple(params.items()))
        answer = answer_to(context, report, USERS, request, lease=self.lease)
        context.ledger.note_beamer_time(answer.date, context.clock.now())
        return answer.body

    def _accept(self, page: UserPage, before: Reading, now: datetime, *, repeated: bool) -> Reading:
        context = self.context
        changed = users.changed(context.database, self.lease.connection, list(page.profiles))
        second = Habits(first_page=context.first_page).second_page
        state = after(before, page, now, changed=bool(changed), repeated=repeated, second=second)
        self._write({seen: page.profiles[seen] for seen in changed}, state, now)
        self.report.pages += 1
        self.report.count(USERS, {"events": len(changed)})
        self.accepted(self.report)
        return state

    def _give_up(self, error: ConnectorError, state: Reading, now: datetime) -> None:
        forbidden = isinstance(error, Forbidden)
        what = NOT_ALLOWED if forbidden else f"{error.what} The users are requested again tomorrow."
        log.warning("stream_trouble", stream=USERS, error=what)
        self.report.trouble(f"{USERS}: {what}", unread=False)
        self._write({}, replace(state, tried_at=now), now)

    def _write(self, profiles: Mapping[Seen, Mapping[str, Any]], state: Reading, now: datetime) -> None:
        """Write how far the users are read, and the messages of those that have changed."""
        context, policy, messages = self.context, self.context.policy, {}
        for seen, profile in profiles.items():
            visit = min(filter(None, (profile["last_seen"], now)))
            shaped = identify(seen.user, traits_of(profile), seen.same, visit, policy.naming, policy.privacy)
            messages[seen] = finished(shaped, USERS)
        destination, key, at = policy.naming.destination, context.write_key, context.clock.now()
        users.write(context.database, self.lease, destination, messages, state, at, write_key=key)

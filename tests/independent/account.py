"""A made-up Beamer account: rows in the form of the API reference's examples, from a seed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

HISTORY = timedelta(days=90)
EDGE = timedelta(days=30)  # the connector's default start; no row is dated near it
CLEAR = timedelta(hours=3)

# Nothing that holds one of these words may ever leave Beamer by default.
PRIVATE = "for-the-team-only"


@dataclass
class Row:
    id: str
    date: datetime
    body: dict[str, Any]

    def render(self) -> dict[str, Any]:
        return {"id": self.id, "date": stamp(self.date), **self.body}


@dataclass
class Post(Row):
    views: int = 0
    comments: list[Row] = field(default_factory=list)
    reactions: list[Row] = field(default_factory=list)

    def render(self) -> dict[str, Any]:
        kinds = [row.body["reaction"] for row in self.reactions]
        counts = {
            "views": self.views,
            "uniqueViews": self.views // 2,
            "clicks": self.views // 10,
            "feedbacks": len(self.comments),
            "positiveReactions": kinds.count("positive"),
            "neutralReactions": kinds.count("neutral"),
            "negativeReactions": kinds.count("negative"),
        }
        return super().render() | {name: str(value) for name, value in counts.items()}


@dataclass
class FeatureRequest(Row):
    comments: list[Row] = field(default_factory=list)
    votes: list[Row] = field(default_factory=list)

    def render(self) -> dict[str, Any]:
        # A number and a string, as in the reference's example.
        return super().render() | {"votesCount": len(self.votes), "commentsCount": str(len(self.comments))}


def stamp(date: datetime) -> str:
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Account:
    """Posts, feature requests and NPS responses, with ways to make more of them."""

    def __init__(self, seed: int, now: datetime) -> None:
        self.now = now.replace(microsecond=0)
        self.random = Random(seed)
        self.posts: list[Post] = []
        self.requests: list[FeatureRequest] = []
        self.nps: list[Row] = []
        self._ids = 1000

    # --- one row each ---------------------------------------------------------------------------------

    def add_post(self, date: datetime, **changes: Any) -> Post:
        number = self._next()
        body: dict[str, Any] = {
            "published": "true",
            "pinned": "false",
            "showInWidget": "true",
            "showInStandalone": "true",
            "category": self.random.choice(["new", "fix", "coming_soon"]),
            "translations": [
                {
                    "title": f"Post {number}",
                    "content": "Some news.",
                    "contentHtml": "<p>Some news.</p>",
                    "language": "EN",
                    "category": "News",
                    "linkUrl": f"https://example.com/news/{number}?utm=beamer",
                    "linkText": "Read on",
                    "images": [],
                },
                {"title": f"Beitrag {number}", "content": "Neues.", "language": "DE", "category": "Neu"},
            ][: self.random.choice([1, 2])],
            "autoOpen": "false",
            "editionDate": stamp(date),
            "feedbackEnabled": "true",
            "reactionsEnabled": "true",
        }
        post = Post(number, date, body | changes, views=self.random.randrange(20, 900))
        self.posts.append(post)
        return post

    def add_comment(self, post: Post, date: datetime, **who: Any) -> Row:
        number = self._next()
        body = {"text": f"Comment {number} — schön!", "postTitle": title_of(post)}
        return keep(post.comments, Row(number, date, body | self._who(who) | link("comment", number)))

    def add_reaction(self, post: Post, date: datetime, **who: Any) -> Row:
        number = self._next()
        kind = self.random.choice(["positive", "neutral", "negative"])
        body = {"reaction": kind, "postTitle": title_of(post)}
        return keep(post.reactions, Row(number, date, body | self._who(who) | link("reaction", number)))

    def add_request(self, date: datetime, **who: Any) -> FeatureRequest:
        number = self._next()
        body = {
            "visible": "true",
            "category": self.random.choice(["bug", "improvement"]),
            "status": "under_review",
            "translations": [
                {
                    "title": f"Request {number}",
                    "content": "Please.",
                    "contentHtml": "<p>Please.</p>",
                    "language": "EN",
                    "permalink": f"https://app.getbeamer.com/example/requests/en/request-{number}",
                    "images": [],
                }
            ],
            "notes": f"A note {PRIVATE}",
        }
        person = {
            {"userFirstName": "userFirstname", "userLastName": "userLastname"}.get(name, name): value
            for name, value in self._who(who).items()
        }
        request = FeatureRequest(number, date, body | person)
        self.requests.append(request)
        return request

    def add_request_comment(self, request: FeatureRequest, date: datetime, **who: Any) -> Row:
        number = self._next()
        body = {
            "visible": "true",
            "actionComment": "false",
            "text": f"Remark {number}",
            "featureRequestTitle": title_of(request),
        }
        row = Row(number, date, body | self._who(who) | link("featureRequestComment", number))
        return keep(request.comments, row)

    def add_vote(self, request: FeatureRequest, date: datetime, **who: Any) -> Row:
        number = self._next()
        body = {"featureRequestTitle": title_of(request)}
        row = Row(number, date, body | self._who(who) | link("featureRequestVote", number))
        return keep(request.votes, row)

    def add_nps(self, date: datetime, **who: Any) -> Row:
        number = f"{int(self._next()):024x}"
        body = {"score": self.random.randrange(11), "refUrl": "https://app.example.com/home?token=abc#top"}
        if self.random.random() < 0.7:
            body["feedback"] = f"Feedback {number}"
        person = self._who(who)
        person.pop("userCustomAttributes", None)
        address = {"url": f"https://app.getbeamer.com/nps#feedback?userId={person.get('userId', '')}"}
        return keep(self.nps, Row(number, date, body | person | address))

    # --- who, when and where --------------------------------------------------------------------------

    def _next(self) -> str:
        self._ids += 1
        return str(self._ids)

    def _who(self, given: dict[str, Any]) -> dict[str, Any]:
        if given:
            return given
        number = self.random.randrange(1, 40)
        person: dict[str, Any] = {
            "userId": f"user-{number}",
            "userEmail": f"person{number}@example.com",
            "userFirstName": "Jane",
            "userLastName": f"Doe {number}",
            "userCustomAttributes": {"organization": "Example", "age": 33},
        }
        if self.random.random() < 0.2:
            nobody: list[dict[str, Any]] = [{}, {"userId": "undefined"}, {"userId": "0"}, {"userId": ""}]
            del person["userId"]
            person |= self.random.choice(nobody)
        return person

    def some_day(self, after: datetime) -> datetime:
        """A moment between a date and now, not near the edge of the default start."""
        oldest = max(after, self.now - HISTORY)
        span = int((self.now - oldest).total_seconds())
        return self.clear_of_edge(oldest + timedelta(seconds=self.random.randrange(max(span, 1))))

    def clear_of_edge(self, date: datetime) -> datetime:
        edge = self.now - EDGE
        return edge + CLEAR if abs(date - edge) < CLEAR else date


TEAM = {
    "internalUserEmail": f"jane@{PRIVATE}.example",
    "internalUserFirstname": f"Jane {PRIVATE}",
    "internalUserLastname": "Doe",
}


def title_of(parent: Row) -> str:
    return str(parent.body["translations"][0]["title"])


def link(kind: str, number: str) -> dict[str, str]:
    return {"url": f"https://app.getbeamer.com/inbox#{kind}?id={number}"}


def keep(rows: list[Row], row: Row) -> Row:
    rows.append(row)
    return row


# --- a whole account, and what comes later ----------------------------------------------------------------


def make_account(seed: int, *, posts: int, requests: int, now: datetime, nps: int = 230) -> Account:
    """An account with 90 days of history."""
    account = Account(seed, now)
    for date in spread(account, posts):
        account.add_post(date)
    account.posts[-3].body["pinned"] = "true"
    drafts = account.posts[-6:-4]
    for post in drafts:
        post.body["published"] = "false"
    published = [post for post in account.posts if post not in drafts]
    for date in spread(account, requests):
        who = account.random.choice([{}, {}, {}, TEAM])
        account.add_request(date, **who)
    busy_posts = [*account.posts[:2], *account.posts[-4:], *account.random.sample(published, 4)]
    for post in busy_posts:
        many(account, account.add_comment, post)
        many(account, account.add_reaction, post)
    for request in [
        *account.requests[:2],
        *account.requests[-2:],
        *account.random.sample(account.requests, 2),
    ]:
        many(account, account.add_request_comment, request)
        many(account, account.add_vote, request)
        hushed(account, request, account.some_day(request.date))
    for post in (account.posts[0], account.posts[-1]):  # an old post and a new one with more than a page
        for _ in range(13):
            account.add_comment(post, account.some_day(account.now - timedelta(days=20)))
    for _ in range(nps):
        account.add_nps(min(account.some_day(account.now - HISTORY), account.now - timedelta(hours=1)))
    return account


def spread(account: Account, count: int) -> Iterable[datetime]:
    """Distinct dates over the history, oldest first."""
    step = HISTORY / (count + 1)
    for number in range(count, 0, -1):
        jitter = timedelta(seconds=account.random.randrange(int(step.total_seconds()) // 3))
        date = account.now - number * step + jitter
        yield account.clear_of_edge(date.replace(microsecond=0))


def many(account: Account, add: Callable[..., Row], parent: Row) -> None:
    for _ in range(account.random.randrange(1, 8)):
        add(parent, account.some_day(parent.date))


def hushed(account: Account, request: FeatureRequest, date: datetime) -> None:
    """A comment by the team, one that is invisible and one that was made by an action."""
    account.add_request_comment(request, date, **TEAM)
    account.add_request_comment(request, date).body |= {"visible": "false", "text": f"Hidden {PRIVATE}"}
    account.add_request_comment(request, date).body |= {"actionComment": "true", "text": f"Done {PRIVATE}"}
    request.comments[-3].body["text"] = f"Internally {PRIVATE}"


def add_rows(account: Account, now: datetime) -> None:
    """What happens in the account some moments before now."""
    now = now.replace(microsecond=0)
    account.posts[-5].body["published"] = "true"  # a draft, published late under its old date
    account.requests[-1].body["status"] = "planned"
    moments = [now - timedelta(seconds=seconds) for seconds in (0, 0, 1, 20, 400)]  # ties too
    added = [account.add_post(moments[4]), account.add_post(moments[0])]
    for post in [*added, account.posts[0], account.posts[1], account.posts[-3], account.posts[-4]]:
        for moment in moments[:3]:
            account.add_comment(post, moment)
        account.add_reaction(post, moments[3])
    for _ in range(11):  # more than a page, all at one moment
        account.add_reaction(account.posts[2], moments[1])
    asked = [account.add_request(moments[3], userId="user-1"), account.add_request(moments[2], **TEAM)]
    for request in [*asked, account.requests[0], account.requests[-3]]:
        account.add_request_comment(request, moments[2])
        account.add_vote(request, moments[0])
        account.add_vote(request, moments[4])
        hushed(account, request, moments[1])
    for moment in [*moments, *moments]:
        account.add_nps(moment).body["feedback"] = "Just typed"

"""One row of the account, and the contents that made-up people write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

STREAMS = (
    "posts",
    "comments",
    "reactions",
    "nps",
    "feature_requests",
    "feature_request_comments",
    "feature_request_votes",
)
Fields = dict[str, Any]
HOUR = 3_600
DAY = 86_400


def moment(seconds: float) -> datetime:
    """Return epoch seconds as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds(date: datetime | str) -> int:
    """Return a time, or a text in ISO 8601, as whole epoch seconds; UTC if it has no time zone."""
    time = datetime.fromisoformat(date) if isinstance(date, str) else date
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def iso(seconds: float) -> str:
    """Return epoch seconds in the format of Beamer's dates."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True, eq=False)
class Row:
    """A row of any stream; its fields are generated when they are first read.

    Names that end in `_s` are times in epoch seconds.
    """

    stream: str
    seq: int
    """Orders rows of the same date."""
    date_s: int
    """The date that the API shows."""
    appears_s: int
    """When the API shows the row first; later than its date if the row is late."""
    write: Callable[["Row"], Fields]
    parent: "Row | None" = None
    id: str = ""
    overrides: Fields = field(default_factory=dict)
    """Fields that replace the generated ones."""
    deleted_s: int | None = None
    hidden: bool = False
    text_s: int = 0
    """When an NPS response gets its text."""
    appeal: float = 0.0
    """How many children this parent gets, as a factor."""
    starts_s: float = 0.0
    """When this parent gets its first children."""
    reads: int = 0
    """Views by requests without `saveViews=false`."""
    version: int = 0
    """Changes with the fields, so that `cache` is not used any more."""
    cache: tuple[Any, bytes] | None = None
    content: Fields | None = None

    @property
    def fields(self) -> Fields:
        """Return the fields as the API names them, without id, date and counters."""
        if self.content is None:
            self.content = {**self.write(self), **self.overrides}
        return self.content

    @property
    def title(self) -> str:
        """Return the title of the first translation; empty for rows without translations."""
        translations: list[Fields] = self.fields.get("translations") or [{}]
        return str(translations[0].get("title", ""))

    @property
    def parent_id(self) -> str | None:
        return self.parent.id if self.parent else None

    @property
    def date(self) -> datetime:
        return moment(self.date_s)

    @property
    def appears(self) -> datetime:
        return moment(self.appears_s)

    @property
    def deleted_at(self) -> datetime | None:
        return None if self.deleted_s is None else moment(self.deleted_s)

    def change(self, fields: Fields) -> None:
        """Change these fields."""
        self.fields.update(fields)
        self.version += 1


# --- what is written into rows ---

FIRST_NAMES = (
    "Jane", "Omar", "Mei", "Lucía", "Søren", "Anaïs", "Piotr", "Noor", "Yuki", "Kofi",
    "Ивана", "נועה", "ليلى", "美咲", "Zoë", "Björn", "Chloé", "Tariq", "Ada", "Łukasz",
)  # fmt: skip
LAST_NAMES = (
    "Doe", "Nguyễn", "O’Brien", "García", "Müller", "Okafor", "Sato", "Rossi", "Haddad", "Novák",
    "Иванова", "כהן", "العلي", "田中", "Van der Berg", "Smith-Jones", "Åkesson", "Silva", "Khan", "Lee",
)  # fmt: skip
PRODUCT_PARTS = (
    "dashboard", "export", "calendar", "search", "mobile app", "inbox", "billing page", "API", "reports",
    "onboarding", "dark mode", "integrations", "notifications", "team roles", "templates", "audit log",
)  # fmt: skip
POST_TITLES = (
    "New: a faster {}", "Say hello to the {} 🎉", "We fixed the {}", "{}: what changed this month",
    "Maintenance window for the {}", "Coming soon: {}", "The {} now speaks עברית", "“Smart” {} & more <beta>",
)  # fmt: skip
REQUEST_TITLES = (
    "Please add shortcuts to the {}", "Let us sort the {}", "Bulk edit in the {}", "{} in two languages",
    "Webhook for the {}", "Make the {} accessible ♿", "تصدير {}", "Undo in the {}",
)  # fmt: skip
COMMENTS = (
    "Love this, thank you!", "Finally 🙌🏽", "This broke my {} on Safari.", "When will the {} get this too?",
    "תודה רבה, עובד מצוין", "شكرا على {} الجديد", "素晴らしい!", "meh", "👍",
    "Line one\nline two about the {}",
    "Is there an \"off\" switch for the {}?", "Works for us in the {} – saves an hour a week.", "+1", "🤷‍♀️",
)  # fmt: skip
NPS_TEXTS = (
    "Love this app!", "The {} is slow.", "Needs a better {}.", "ممتاز", "Would be a 10 with {}.", "🔥🔥🔥",
    "לא רע", "We could not work without the {}.", "Too many clicks to reach the {}.", "Good support, thanks.",
)  # fmt: skip
POST_CATEGORIES = ("new", "improvement", "fix", "coming_soon", "announcement", "other")
REQUEST_CATEGORIES = ("bug", "feature", "improvement", "integration")
SEGMENTS = ("admins", "beta", "enterprise;eu", "trial")
CITIES = (("Barcelona", "Spain"), ("Lagos", "Nigeria"), ("Osaka", "Japan"), ("Haifa", "Israel"))
ORGANIZATIONS = ("Example", "Acme", "Globex", "Initech", "שלום בע״מ")

NO_ID: tuple[dict[str, Any], ...] = ({}, {"userId": None}, {"userId": ""}, {"userId": "undefined"})


APP = "https://app.beamer.example"


class People:
    """The users of the company and its team; they depend only on the seed."""

    def __init__(self, seed: int, count: int) -> None:
        self.users = [self._user(Random(f"{seed}/person/{number}"), number) for number in range(count)]
        self.team = [self._member(Random(f"{seed}/team/{number}")) for number in range(5)]

    @staticmethod
    def _user(rng: Random, number: int) -> Fields:
        known = rng.random() >= 0.15
        user: Fields = {"userId": f"u{1000 + number}"} if known else dict(rng.choice(NO_ID))
        if known or rng.random() < 0.5:
            user["userEmail"] = f"user{number}@{rng.choice(('mail', 'acme', 'globex'))}.example"
        user["userFirstName"] = rng.choice(FIRST_NAMES)
        user["userLastName"] = rng.choice(LAST_NAMES)
        if rng.random() < 0.6:
            user["userCustomAttributes"] = {
                "organization": rng.choice(ORGANIZATIONS),
                "age": rng.randint(18, 80),
            }
        return user

    @staticmethod
    def _member(rng: Random) -> Fields:
        first = rng.choice(FIRST_NAMES[:5])
        return {
            "internalUserEmail": f"{first.lower()}@company.example",
            "internalUserFirstname": first,
            "internalUserLastname": rng.choice(LAST_NAMES),
        }

    def user_rows(self, seed: int, now: float) -> list[Fields]:
        """Return the rows of `/users`."""
        return [
            self._user_row(Random(f"{seed}/users/{number}"), user, now)
            for number, user in enumerate(self.users)
        ]

    @staticmethod
    def _user_row(rng: Random, user: Fields, now: float) -> Fields:
        city, country = rng.choice(CITIES)
        first = now - rng.randrange(400 * DAY)
        row = {key: value for key, value in user.items() if key != "userCustomAttributes"}
        return {
            "beamerId": f"{rng.randrange(10**5):05d}-{rng.randrange(10**5):05d}",
            **row,
            "language": "EN",
            "filter": "example-filter",
            "firstSeen": iso(first),
            "lastSeen": iso(rng.uniform(first, now)),
            "ip": "127.0.0.1",
            "browser": rng.choice(("Chrome", "Firefox", "Safari")),
            "os": rng.choice(("Mac OS", "Windows", "Linux")),
            "city": city,
            "country": country,
            "latitude": "0.0",
            "longitude": "0.0",
        }


def request_author(user: Fields) -> Fields:
    """Return a user with the field names of feature requests, as in `userFirstname`."""
    return {key.replace("Name", "name"): value for key, value in user.items()}


class Writer:
    """Writes the fields of rows; they depend only on the seed, the stream and the id."""

    def __init__(self, seed: int, people: People, visitors: float = 0.0) -> None:
        self.seed = seed
        self.visitors = visitors
        self.people = people
        self._by_stream: dict[str, Callable[[Random, Row], Fields]] = {
            "posts": self._post,
            "comments": self._comment,
            "reactions": self._reaction,
            "nps": self._nps,
            "feature_requests": self._request,
            "feature_request_comments": self._request_comment,
            "feature_request_votes": self._vote,
        }

    def __call__(self, row: Row) -> Fields:
        return self._by_stream[row.stream](Random(f"{self.seed}/{row.stream}/{row.id}"), row)

    def _phrase(self, rng: Random, phrases: tuple[str, ...]) -> str:
        return rng.choice(phrases).replace("{}", rng.choice(PRODUCT_PARTS))

    def _user(self, rng: Random) -> Fields:
        return dict(rng.choice(self.people.users)) if self.people.users else {}

    def _post(self, rng: Random, row: Row) -> Fields:
        title = self._phrase(rng, POST_TITLES)
        category = rng.choice(POST_CATEGORIES)
        languages = ["EN", "ES", "HE"][: rng.choices((1, 2, 3), (80, 12, 8))[0]]
        fields: Fields = {
            "published": "true",
            "pinned": "false",
            "showInWidget": "true",
            "showInStandalone": "true",
            "category": category,
            "translations": [_translation(title, language, category, row.id) for language in languages],
            "autoOpen": "false",
            "editionDate": iso(row.appears_s),
            "feedbackEnabled": "true",
            "reactionsEnabled": "true",
        }
        if rng.random() < 0.2:
            fields |= {"dueDate": iso(row.date_s + 90 * DAY), "boostedAnnouncement": "snippet"}
        if rng.random() < 0.1:
            fields["filterUrl"] = f"{APP}/*"
        return fields

    def _comment(self, rng: Random, row: Row) -> Fields:
        return {
            "text": self._phrase(rng, COMMENTS),
            "postTitle": _title_of(row.parent),
            **self._user(rng),
            "url": f"{APP}/inbox#comment?id={row.id}",
        }

    def _reaction(self, rng: Random, row: Row) -> Fields:
        user = self._user(rng)
        return {
            "reaction": "positive",
            "postTitle": _title_of(row.parent),
            **({} if self.visitors and rng.random() < self.visitors else user),
            "url": f"{APP}/inbox#reaction?id={row.id}",
        }

    def _nps(self, rng: Random, row: Row) -> Fields:  # noqa: ARG002
        user = self._user(rng)
        user.pop("userCustomAttributes", None)
        return {
            "score": rng.choices(range(11), (2, 1, 1, 1, 2, 4, 6, 12, 18, 22, 31))[0],
            "feedback": self._phrase(rng, NPS_TEXTS) if rng.random() < 0.6 else "",
            **user,
            "refUrl": f"{APP}/home?tab={rng.choice(PRODUCT_PARTS).replace(' ', '-')}#top",
            "url": f"{APP}/nps#feedback?userId={user.get('userId') or ''}",
        }

    def _request(self, rng: Random, row: Row) -> Fields:
        title = self._phrase(rng, REQUEST_TITLES)
        author = rng.choice(self.people.team) if rng.random() < 0.25 else request_author(self._user(rng))
        fields: Fields = {
            "visible": "false" if rng.random() < 0.1 else "true",
            "category": rng.choice(REQUEST_CATEGORIES),
            "status": "under_review",
            "translations": [
                {
                    "title": title,
                    "content": f"{title}, please.",
                    "contentHtml": f"<p>{title}, please.</p>",
                    "language": "EN",
                    "permalink": f"{APP}/beamer/requests/en/request-{row.id}",
                    "images": [f"{APP}/pictures?id={row.id}"],
                }
            ],
            **author,
        }
        if rng.random() < 0.3:
            fields |= {"notes": "Internal: asked for by two big customers", "filters": "Feature request"}
        return fields

    def _request_comment(self, rng: Random, row: Row) -> Fields:
        by_team = rng.random() < 0.15
        fields: Fields = {
            "visible": "false" if rng.random() < 0.08 else "true",
            "actionComment": "false",
            "text": self._phrase(rng, COMMENTS),
            "featureRequestTitle": _title_of(row.parent),
            **(rng.choice(self.people.team) if by_team else self._user(rng)),
            "url": f"{APP}/inbox#featureRequestComment?id={row.id}",
        }
        if rng.random() < 0.2:
            del fields["featureRequestTitle"]
            fields["parentComment"] = self._phrase(rng, COMMENTS)
        return fields

    def _vote(self, rng: Random, row: Row) -> Fields:
        return {
            "featureRequestTitle": _title_of(row.parent),
            **self._user(rng),
            "url": f"{APP}/inbox#featureRequestVote?id={row.id}",
        }


def _title_of(parent: Row | None) -> str:
    return parent.title if parent else ""


def _translation(title: str, language: str, category: str, post_id: str) -> Fields:
    text = title if language == "EN" else f"[{language}] {title}"
    return {
        "title": text,
        "content": f"{text}. Read on in our blog.",
        "contentHtml": f"<p>{text}. Read on in our blog.</p>",
        "language": language,
        "category": category.title(),
        "linkUrl": f"https://www.company.example/news/{post_id}",
        "linkText": "Read more",
        "images": [f"{APP}/pictures?id={post_id}"],
    }

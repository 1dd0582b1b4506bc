"""What made-up people write, and who they are."""

from collections.abc import Callable
from random import Random
from typing import Any

from connector.sandbox.people import People, lower_names
from connector.sandbox.row import Fields, Row, iso
from connector.sandbox.words import CATEGORIES, PARTS, REMARKS, TITLES, VERDICTS, WISH_CATEGORIES, WISHES

APP = "https://app.beamer.example"


class Writer:
    """Writes the content of rows."""

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
        return rng.choice(phrases).replace("{}", rng.choice(PARTS))

    def _user(self, rng: Random) -> Fields:
        return dict(rng.choice(self.people.users)) if self.people.users else {}

    def _post(self, rng: Random, row: Row) -> Fields:
        title = self._phrase(rng, TITLES)
        category = rng.choice(CATEGORIES)
        languages = ["EN", "ES", "HE"][: rng.choices((1, 2, 3), (80, 12, 8))[0]]
        fields: Fields = {
            "published": "true",
            "pinned": "false",
            "showInWidget": "true",
            "showInStandalone": "true",
            "category": category,
            "translations": [_translation(title, tongue, category, row.id) for tongue in languages],
            "autoOpen": "false",
            "editionDate": iso(row.appears_s),
            "feedbackEnabled": "true",
            "reactionsEnabled": "true",
        }
        if rng.random() < 0.2:
            fields |= {"dueDate": iso(row.date_s + 90 * 86_400), "boostedAnnouncement": "snippet"}
        if rng.random() < 0.1:
            fields["filterUrl"] = f"{APP}/*"
        return fields

    def _comment(self, rng: Random, row: Row) -> Fields:
        return {
            "text": self._phrase(rng, REMARKS),
            "postTitle": title_of(row.parent),
            **self._user(rng),
            "url": f"{APP}/inbox#comment?id={row.id}",
        }

    def _reaction(self, rng: Random, row: Row) -> Fields:
        user = self._user(rng)
        return {
            "reaction": "positive",
            "postTitle": title_of(row.parent),
            **({} if self.visitors and rng.random() < self.visitors else user),
            "url": f"{APP}/inbox#reaction?id={row.id}",
        }

    def _nps(self, rng: Random, row: Row) -> Fields:  # noqa: ARG002
        user = self._user(rng)
        user.pop("userCustomAttributes", None)
        return {
            "score": rng.choices(range(11), (2, 1, 1, 1, 2, 4, 6, 12, 18, 22, 31))[0],
            "feedback": self._phrase(rng, VERDICTS) if rng.random() < 0.6 else "",
            **user,
            "refUrl": f"{APP}/home?tab={rng.choice(PARTS).replace(' ', '-')}#top",
            "url": f"{APP}/nps#feedback?userId={user.get('userId') or ''}",
        }

    def _request(self, rng: Random, row: Row) -> Fields:
        title = self._phrase(rng, WISHES)
        author = rng.choice(self.people.team) if rng.random() < 0.25 else lower_names(self._user(rng))
        fields: Fields = {
            "visible": "false" if rng.random() < 0.1 else "true",
            "category": rng.choice(WISH_CATEGORIES),
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
            "text": self._phrase(rng, REMARKS),
            "featureRequestTitle": title_of(row.parent),
            **(rng.choice(self.people.team) if by_team else self._user(rng)),
            "url": f"{APP}/inbox#featureRequestComment?id={row.id}",
        }
        if rng.random() < 0.2:
            del fields["featureRequestTitle"]
            fields["parentComment"] = self._phrase(rng, REMARKS)
        return fields

    def _vote(self, rng: Random, row: Row) -> Fields:
        return {
            "featureRequestTitle": title_of(row.parent),
            **self._user(rng),
            "url": f"{APP}/inbox#featureRequestVote?id={row.id}",
        }


def title_of(parent: Row | None) -> str:
    """The title of a parent's first translation."""
    translations: list[dict[str, Any]] = (parent.fields.get("translations") or [{}]) if parent else [{}]
    return str(translations[0].get("title", ""))


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

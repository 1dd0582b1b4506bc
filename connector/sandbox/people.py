"""The end users and the team: who comments, votes and answers surveys."""

from random import Random
from typing import Any

from connector.sandbox.row import Fields, iso
from connector.sandbox.words import CITIES, FIRST_NAMES, LAST_NAMES, ORGANIZATIONS

NO_ID: tuple[dict[str, Any], ...] = ({}, {"userId": None}, {"userId": ""}, {"userId": "undefined"})
DAY = 86_400


class People:
    """A fixed crowd; the same person always has the same name and address."""

    def __init__(self, seed: int, count: int) -> None:
        self.users = [self._user(Random(f"{seed}/person/{n}"), n) for n in range(count)]
        self.team = [self._member(Random(f"{seed}/team/{n}")) for n in range(5)]

    @staticmethod
    def _user(rng: Random, n: int) -> Fields:
        known = rng.random() >= 0.15
        user: Fields = {"userId": f"u{1000 + n}"} if known else dict(rng.choice(NO_ID))
        if known or rng.random() < 0.5:
            user["userEmail"] = f"user{n}@{rng.choice(('mail', 'acme', 'globex'))}.example"
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

    def listed(self, seed: int, now: float) -> list[Fields]:
        """The rows of `/users`."""
        return [self._listed(Random(f"{seed}/users/{n}"), user, now) for n, user in enumerate(self.users)]

    @staticmethod
    def _listed(rng: Random, user: Fields, now: float) -> Fields:
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


def lower_names(user: Fields) -> Fields:
    """A user as feature requests spell it, with a lower-case n."""
    return {key.replace("Name", "name"): value for key, value in user.items()}

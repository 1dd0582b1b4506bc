"""Beamer's webhooks: which events it sends when, in the form that its documentation shows."""

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush
from http.client import HTTPConnection, HTTPException
from random import Random
from threading import Event as Bell
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from connector.sandbox.rows import Fields, Row, iso

SECRET_HEADER = "Beamer-Webhook-Secret"  # noqa: S105 - the header's name
SECRET = "sandbox-webhook-secret"  # noqa: S105 - it opens nothing but a sandbox
Event = dict[str, Any]
# Beamer sends nothing for feature requests.
KINDS = ("posts", "comments", "reactions", "nps")
_USER = ("userId", "userFirstName", "userLastName", "userEmail", "userCustomAttributes")
_OF_POST = (
    "published",
    "category",
    "feedbackEnabled",
    "reactionsEnabled",
    "showInWidget",
    "showInStandalone",
)


@dataclass
class WebhookSwitches:
    """Disturbances of the events; the shares are from 0 to 1."""

    lost: float = 0.0
    doubled: float = 0.0
    false: float = 0.0
    """The share of events beside which one is sent of which no row is there."""
    retitled: float = 0.0
    """The share with a title that no post has (any more)."""
    delay: timedelta = timedelta(0)
    """At most so much later than the row appears: events overtake each other."""
    row_ids: bool = True
    """Whether the addresses of comments and reactions hold the row's id."""


class Webhooks:
    """The events that are not sent yet, as rows appear."""

    def __init__(self, seed: int, switches: WebhookSwitches | None = None) -> None:
        self.switches = switches or WebhookSwitches()
        self._rng = Random(f"{seed}/webhooks")
        self._waiting: list[tuple[float, int, str, Event]] = []
        self._count = 0
        # Recently sent titles: a false event names the post of another one.
        self._titles: deque[object] = deque(maxlen=50)

    def appeared(self, row: Row) -> None:
        """Queue the event of a new row, as changed by the switches."""
        if row.stream not in KINDS or row.hidden:
            return
        switches, rng = self.switches, self._rng
        event = event_of(row)
        if "url" in event and not switches.row_ids:
            event["url"] = str(event["url"]).partition("?")[0]
        if "postTitle" in event and rng.random() < switches.retitled:
            event["postTitle"] = f"{event['postTitle']} (edited)"
        if rng.random() >= switches.lost:
            self._send(row, event)
        if rng.random() < switches.doubled:
            self._send(row, event)
        if rng.random() < switches.false:
            false = {**event, "id": "1"} if row.stream == "posts" else dict(event)
            if "postTitle" in false and self._titles:
                false["postTitle"] = rng.choice(self._titles)
            if "url" in false:
                false["url"] = f"{str(false['url']).partition('?')[0]}?id={rng.randrange(10**9, 10**10)}"
            self._send(row, false)
        if "postTitle" in event:
            self._titles.append(event["postTitle"])

    def _send(self, row: Row, event: Event) -> None:
        self._count += 1
        late = self.switches.delay.total_seconds() * self._rng.random()
        heappush(self._waiting, (row.appears_s + late, self._count, row.stream, event))

    def due(self, now: float) -> list[list[Event]]:
        """Return the bodies that are due: one for each kind, as each has its own webhook."""
        bodies: dict[str, list[Event]] = {}
        while self._waiting and self._waiting[0][0] <= now:
            *_, kind, event = heappop(self._waiting)
            bodies.setdefault(kind, []).append(event)
        return list(bodies.values())


def event_of(row: Row) -> Event:
    """Return a row's event."""
    fields, date = row.fields, {"date": iso(row.date_s)}
    if row.stream == "posts":
        first: Fields = (fields.get("translations") or [{}])[0]
        texts = ("language", "title", "contentHtml", "content", "linkUrl", "linkText")
        return {
            "id": row.id,
            **date,
            **{name: fields[name] for name in _OF_POST if name in fields},
            "postUrl": f"https://app.beamer.example/posts/{row.id}",
            **{name: first[name] for name in texts if name in first},
        }
    names = {
        "comments": ("postTitle", "text", "url"),
        "reactions": ("postTitle", "reaction", "url"),
        "nps": ("score", "feedback", "refUrl", "url"),
    }[row.stream]
    return {**date, **{name: fields[name] for name in (*names, *_USER) if name in fields}}


def post(url: str, events: list[Event], secret: str = SECRET) -> int | None:
    """Send a webhook to an address on this machine; return the status, None without an answer."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=10)
    headers = {"Content-Type": "application/json", SECRET_HEADER: secret}
    try:
        connection.request("POST", address.path, json.dumps(events), headers)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


class Sender:
    """Sends due webhooks every half second, in a thread, until closed; never sends one again."""

    def __init__(self, due: Callable[[], list[list[Event]]], url: str) -> None:
        self._due, self._url = due, url
        self._closed = Bell()
        Thread(target=self._send, name="sandbox-webhooks", daemon=True).start()

    def _send(self) -> None:
        while not self._closed.wait(0.5):
            for events in self._due():
                with suppress(ValueError):
                    post(self._url, events)

    def close(self) -> None:
        self._closed.set()

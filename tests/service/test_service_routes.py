"""What probes are told, over a socket, when all is well and when it is not."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import httpx
import pytest

from connector.errors import ConfigurationError, StoreUnreachable
from connector.service.board import Board, Page, Pages
from connector.service.connections_page import page
from connector.service.metrics import Sample
from connector.service.routes import SILENT_SECONDS, Kept, healthz, readyz
from connector.state import refusals, schema
from connector.state.engine import Store, open_store

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    yield store
    store.close()


def test_alive_while_the_loop_beats() -> None:
    assert healthz(SILENT_SECONDS).status == 200
    gone = healthz(SILENT_SECONDS + 1)
    assert (gone.status, b"silent" in gone.body) == (503, True)


def test_ready_with_a_store_of_this_version_and_keys_that_are_taken(store: Store) -> None:
    assert b"revision None" in readyz(store, {"a": 1}, draining=False).body
    schema.ready(store, NOW)
    assert readyz(store, {"a": 1}, draining=False).status == 200
    assert readyz(store, {"a": 1}, draining=True).status == 503
    refusals.remember(store, "a", "beamer", "key", "refused", NOW)
    refused = readyz(store, {"a": 1}, draining=False)
    assert (refused.status, refused.body) == (503, b"a key was refused; suspended: a\n")
    # Another process's connection is not this one's to worry about.
    assert readyz(store, {"b": 1}, draining=False).status == 200


def served(pages: Pages, path: str, method: str = "GET") -> httpx.Response:
    with closing(Board("127.0.0.1:0", pages)) as board:
        return httpx.request(method, f"http://127.0.0.1:{board.port}{path}", trust_env=False)


def raises(error: Exception) -> Pages:
    def page() -> Page:
        raise error

    return {"/": page}


def test_pages_that_fail_say_no_more_than_they_should() -> None:
    gone = served(raises(StoreUnreachable("The state store x failed.")), "/")
    assert (gone.status_code, gone.text) == (503, "The state store x failed.\n")
    odd = served(raises(ValueError("someone@example.com")), "/")
    assert (odd.status_code, odd.text) == (500, "failed\n")


def test_only_reading_is_served() -> None:
    pages: Pages = {"/x": lambda: Page(b"here\n")}
    assert served(pages, "/x?from=probe").text == "here\n"
    head = served(pages, "/x", "HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "5")
    assert served(pages, "/x", "POST").status_code == 501
    assert served(pages, "/../etc/passwd").status_code == 404
    assert "Python" not in served(pages, "/x").headers["server"]


def test_an_address_that_cannot_be_served_is_a_matter_of_configuration() -> None:
    with closing(Board("127.0.0.1:0", {})) as board, pytest.raises(ConfigurationError, match="served"):
        Board(f"127.0.0.1:{board.port}", {})
    with pytest.raises(ConfigurationError):
        Board("192.0.2.1:0", {})


def test_figures_are_kept_for_a_moment() -> None:
    looks: list[int] = []

    def look() -> list[Sample]:
        looks.append(1)
        return [Sample("suspended", ("a",), 0)]

    kept = Kept(look)
    assert kept.seen() == kept.seen()
    assert looks == [1]


def test_the_page_shows_names_as_text() -> None:
    shown = page([Sample("suspended", ("<b>",), 1), Sample("outbox_messages", ("<b>",), 1234)], NOW)
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "yes: a key was refused" in shown
    assert "1,234" in shown

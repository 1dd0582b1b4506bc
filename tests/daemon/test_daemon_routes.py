"""What probes are told, over a socket, when all is well and when it is not."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from connector.clock import timer
from connector.daemon.http import (
    HTML,
    MOST_CONNECTIONS,
    SILENT_SECONDS,
    STUCK_SECONDS,
    TEXT,
    Cached,
    Page,
    Pages,
    StatusServer,
    healthz,
    page,
    readyz,
    stuck,
)
from connector.errors import ConfigurationError, DatabaseUnreachable
from connector.reporting.metrics import Sample
from connector.reporting.report_page import policy
from connector.state import leases, schema, suspensions
from connector.state.engine import Database, open_database
from connector.state.leases import this_process

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.close()


def test_alive_while_the_loop_beats() -> None:
    assert healthz(SILENT_SECONDS).status == 200
    gone = healthz(SILENT_SECONDS + 1)
    assert (gone.status, b"the loop has not run" in gone.body) == (503, True)


def test_ready_with_a_store_of_this_version_and_keys_that_are_taken(database: Database) -> None:
    assert b"revision None" in readyz(database, {"a": 1}, draining=False).body
    schema.ready(database, NOW)
    assert readyz(database, {"a": 1}, draining=False).status == 200
    assert readyz(database, {"a": 1}, draining=True).status == 503
    suspensions.remember(database, "a", "beamer", "key", "refused", NOW)
    refused = readyz(database, {"a": 1}, draining=False)
    assert (refused.status, refused.body) == (503, b"a key was refused; suspended: a\n")
    # Another process's connection is not this one's to worry about.
    assert readyz(database, {"b": 1}, draining=False).status == 200


@pytest.mark.parametrize(
    ("seconds", "ago", "told"),
    [
        (STUCK_SECONDS + 10, STUCK_SECONDS + 5, True),
        (9 * STUCK_SECONDS, 9 * STUCK_SECONDS, True),
        (9 * STUCK_SECONDS, 5, False),
        (5, 9 * STUCK_SECONDS, False),
        (9 * STUCK_SECONDS, -3600, False),
    ],
)
def test_not_ready_while_a_run_makes_no_progress(
    database: Database, seconds: float, ago: float, told: bool
) -> None:
    """Whatever it does renews its lease; one that only takes long is none."""
    schema.ready(database, NOW)
    leases.acquire(database, "a", this_process(), NOW - timedelta(seconds=ago))
    leases.acquire(database, "b", this_process(), NOW)
    found = stuck(database, {"a": seconds, "b": seconds, "c": 0.0}, NOW)
    assert bool(found) is told
    ready = readyz(database, {"a": 1}, draining=False, stuck=found)
    assert (ready.status, b"a run of a has made no progress" in ready.body) == (503 if told else 200, told)


def served(pages: Pages, path: str, method: str = "GET") -> httpx.Response:
    with closing(StatusServer("127.0.0.1:0", pages)) as board:
        return httpx.request(method, f"http://127.0.0.1:{board.port}{path}", trust_env=False)


def raises(error: Exception) -> Pages:
    def page() -> Page:
        raise error

    return {"/": page}


def test_pages_that_fail_say_no_more_than_they_should() -> None:
    gone = served(raises(DatabaseUnreachable("The database x failed.")), "/")
    assert (gone.status_code, gone.text) == (503, "The database x failed.\n")
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


LOCAL = ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "localhost.", "[::1]:8080", "127.9.9.9"]
ELSEWHERE = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "192.0.2.1",
    "",
    "127.0.0.1.nip.example",
]


@pytest.mark.parametrize("host", [*LOCAL, *ELSEWHERE])
def test_what_is_for_this_machine_is_not_shown_under_a_name_from_elsewhere(host: str) -> None:
    pages: Pages = {"/": lambda: Page(b"here\n")}
    with closing(StatusServer("127.0.0.1:0", pages)) as board:
        url = f"http://127.0.0.1:{board.port}/"
        found = httpx.get(url, headers={"Host": host}, trust_env=False)
    assert found.status_code == (200 if host in LOCAL else 421)
    assert ("here" in found.text) is (host in LOCAL)


def test_bound_to_all_addresses_any_name_will_do() -> None:
    with closing(StatusServer("0.0.0.0:0", {"/": lambda: Page(b"here\n")})) as board:
        url = f"http://127.0.0.1:{board.port}/"
        assert httpx.get(url, headers={"Host": "beamer.svc"}, trust_env=False).text == "here\n"


def half_open(port: int, said: bytes) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=20)
    found.sendall(said)
    return found


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_any_number_of_viewers_who_say_nothing_leaves_probes_their_answer(said: bytes) -> None:
    with closing(StatusServer("127.0.0.1:0", {"/": lambda: Page(b"here\n")})) as board, ExitStack() as opened:
        before = len([*Path("/proc/self/fd").iterdir()])
        for _ in range(300):
            opened.enter_context(half_open(board.port, said))
        assert httpx.get(f"http://127.0.0.1:{board.port}/", trust_env=False, timeout=20).text == "here\n"
        # Our own ends, and those that are kept open here.
        assert len([*Path("/proc/self/fd").iterdir()]) - before <= 300 + MOST_CONNECTIONS + 10


@pytest.mark.parametrize("said", [b"GET / HT", b"GET / HTTP/1.1\r\nX: y\r\n", b""])
def test_a_viewer_who_never_ends_is_hung_up_on(said: bytes) -> None:
    """However often it sends another byte."""
    with (
        closing(StatusServer("127.0.0.1:0", {}, deadline=0.3)) as board,
        half_open(board.port, said) as viewer,
    ):
        began = timer()
        viewer.settimeout(0.1)
        while began() < 20:
            try:
                viewer.sendall(b"x")
                if not viewer.recv(100):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert began() < 5


@pytest.mark.parametrize(
    "said",
    [
        b"GET /" + b"x" * 60_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 90_000,
    ],
)
def test_a_request_without_end_is_not_kept(said: bytes) -> None:
    with closing(StatusServer("127.0.0.1:0", {"/": lambda: Page(b"here\n")})) as board:
        with half_open(board.port, b"") as viewer, suppress(OSError):
            viewer.sendall(said)
            assert b"here" not in viewer.recv(1000)
        assert httpx.get(f"http://127.0.0.1:{board.port}/", trust_env=False).text == "here\n"


WITH_FEW_DESCRIPTORS = """
import resource, sys, time
from connector.daemon.http import StatusServer, Page
board = StatusServer("127.0.0.1:0", {"/": lambda: Page(b"here\\n")})
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
# Not the imports, which take longer on a busy machine.
before = time.process_time()
print(board.port, flush=True)
sys.stdin.read()
print(time.process_time() - before)
"""


def test_out_of_descriptors_it_waits_and_goes_on() -> None:
    command = [sys.executable, "-c", WITH_FEW_DESCRIPTORS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        # The log comes first.
        port = int([process.stdout.readline() for _ in range(2)][1])
        with ExitStack() as opened:
            viewers = [opened.enter_context(half_open(port, b"")) for _ in range(40)]
            viewers[-1].settimeout(2)
            with pytest.raises(TimeoutError):
                viewers[-1].recv(1)
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=20).text == "here\n"
        seconds = float(process.communicate("")[0].splitlines()[-1])
    # It does not ask for a descriptor a hundred thousand times a second.
    assert seconds < 1


def test_an_address_that_cannot_be_served_is_a_matter_of_configuration() -> None:
    with closing(StatusServer("127.0.0.1:0", {})) as board, pytest.raises(ConfigurationError, match="served"):
        StatusServer(f"127.0.0.1:{board.port}", {})
    with pytest.raises(ConfigurationError):
        StatusServer("192.0.2.1:0", {})


def test_figures_are_kept_for_a_moment() -> None:
    looks: list[int] = []

    def look() -> list[Sample]:
        looks.append(1)
        return [Sample("suspended", ("a",), 0)]

    kept = Cached(look)
    assert kept.value() == kept.value()
    assert looks == [1]


def test_the_page_shows_names_as_text() -> None:
    samples = [Sample("suspended", ("<b>",), 1), Sample("outbox_messages", ("<b>",), 1234)]
    samples += [Sample("last_run_exit_code", ("c",), 69), Sample("requests_left", ("an account",), 3)]
    shown = page(samples, NOW, {"<b>": "/report/<b>", "c": "/report/c", "d": "/report/d"})
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "suspended: a key was refused" in shown
    assert "last run exited with code 69" in shown
    assert "never run" in shown
    assert "1,234" in shown
    assert "2 of 3 connections need attention." in shown


def test_pages_for_people_are_loaded_again_every_minute() -> None:
    pages: Pages = {"/": lambda: Page(b"", HTML), "/x": lambda: Page(b"", TEXT)}
    html, text = (served(pages, address).headers for address in pages)
    assert (html["Refresh"], text.get("Refresh")) == ("60", None)
    assert (
        html["Content-Security-Policy"]
        == text["Content-Security-Policy"]
        == f"{policy()}; frame-ancestors 'none'"
    )

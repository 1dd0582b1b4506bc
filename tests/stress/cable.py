"""A cable between a program and a PostgreSQL server, which can be cut at any commit."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Literal

from sqlalchemy import make_url

Cut = Literal["before", "after"]
# As psycopg says it, in a simple query: a letter, a length, and a text that ends with NUL.
COMMIT = b"COMMIT\x00"


class Cable:
    """Passes bytes on, until the n-th commit: cut before it gets there, or before its answer comes back."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lock = Lock()
        self.port: int = self._door.getsockname()[1]
        self.commits = 0
        self.cut_at: int | None = None
        self.cut: Cut = "after"
        self.happened = 0
        Thread(target=self._listen, daemon=True).start()

    def arm(self, commits: int, cut: Cut) -> None:
        """Cut at this commit, counted from now."""
        with self._lock:
            self.commits, self.cut_at, self.cut, self.happened = 0, commits, cut, 0

    def close(self) -> None:
        self._door.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(self._server)
                for socks in (client, server):
                    socks.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                silent: list[bool] = []
                Thread(target=self._pass_on, args=(client, server, silent), daemon=True).start()
                Thread(target=_pass_back, args=(server, client, silent), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket, silent: list[bool]) -> None:
        with suppress(OSError):
            while said := client.recv(65536):
                cut = self._is_cut(said)
                if cut == "before":
                    break
                if cut == "after":
                    silent.append(True)  # before it is sent, for the answer may come at once
                server.sendall(said)
        if not silent:
            _end(client, server)

    def _is_cut(self, said: bytes) -> Cut | None:
        if COMMIT not in said:
            return None
        with self._lock:
            self.commits += 1
            if self.commits != self.cut_at:
                return None
            self.happened += 1
            return self.cut


def _pass_back(server: socket.socket, client: socket.socket, silent: list[bool]) -> None:
    with suppress(OSError):
        while said := server.recv(65536):
            if silent:
                break
            client.sendall(said)
    _end(client, server)
    client.close()
    server.close()


def _end(*ends: socket.socket) -> None:
    """Tell both sides; closing alone would not, while another thread listens."""
    for each in ends:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cable(url: str) -> Iterator[tuple[Cable, str]]:
    """A cable to the server of a URL, and the URL at its near end."""
    parsed = make_url(url)
    one = Cable(parsed.host or "127.0.0.1", parsed.port or 5432)
    near = parsed.set(host="127.0.0.1", port=one.port).update_query_dict({"sslmode": "disable"})
    try:
        yield one, near.render_as_string(hide_password=False)
    finally:
        one.close()

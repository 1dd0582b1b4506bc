"""Servers on loopback that say what no library would."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]

    def loop() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    serve(connection)

    Thread(target=loop, daemon=True).start()
    try:
        yield port
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for a name, and its key, in one file."""
    made, kind = folder / f"{name}.pem", "IP" if name[0].isdigit() else "DNS"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", str(made), "-out", str(folder / "part"), "-days", "2", "-subj", "/CN=made-up",
             "-addext", f"subjectAltName={kind}:{name}"],
            check=True,
            capture_output=True,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl that can make a certificate")
    made.write_text(made.read_text() + (folder / "part").read_text())
    return made

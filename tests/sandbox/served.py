"""Both APIs on loopback, with answers that come late, hang, or break off."""

import os
import socket
import struct
from threading import Event
from typing import Any

from connector.sandbox import Answer, Served
from connector.sandbox.server import Handle, Handler
from tests.sandbox.faults import Faults, faulty


class FaultyServed(Served):
    """The two servers of the sandbox; their answers go wrong on the way back as the faults say."""

    def __init__(self, handle: Handle, faults: Faults, port: int = 0) -> None:
        self.faults = faults
        self.closing = Event()
        super().__init__(handle, port)

    def handler(self, *args: Any) -> Handler:
        return FaultyHandler(self, *args)

    def close(self) -> None:
        """Stop both servers, and do not wait for answers that are late."""
        self.closing.set()
        super().close()


class FaultyHandler(Handler):
    """Answers the requests of one connection, or breaks it."""

    def __init__(self, served: FaultyServed, *args: Any) -> None:
        self._faults = served.faults
        self._closing = served.closing
        super().__init__(served, *args)

    def send(self, answer: Answer) -> None:
        """Send the answer as late, and as completely, as its faults say."""
        late = faulty(answer)
        if late.delay:
            self._closing.wait(late.delay)
        if late.mishap == "hang":
            self._closing.wait(self._faults.hang_seconds)
        if late.mishap in ("hang", "reset"):
            self._reset()
        elif late.mishap == "trickle":
            self.send_head(late)
            self._trickle(late.body)
        else:
            super().send(late)

    def _trickle(self, body: bytes) -> None:
        for position in range(len(body)):
            self.wfile.write(body[position : position + 1])
            self.wfile.flush()
            if self._closing.wait(self._faults.trickle_seconds):
                break
        self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        # Closing with a linger of zero sends a reset where a plain close would send an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

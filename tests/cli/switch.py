"""A server on loopback that stands for what a run calls when it has ended."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Switch:
    """A dead man's switch, and a webhook: where it was called, and the texts that were posted."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.texts: list[str] = []
        self.headers: list[str] = []
        self.status = 200
        switch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                switch.called.append(self.path)
                switch.headers.append(str(self.headers))
                self.send_response(switch.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                switch.texts += [body["text"]]
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/a-check"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

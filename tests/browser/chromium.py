"""A headless Chromium, spoken to over two pipes by the DevTools protocol: no driver, no socket."""

import json
import os
import select
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# A browser that starts beside other tests on a small machine.
LONGEST = 90.0
# It reads from 3 and writes to 4; a shell knows no numbers of two digits.
LAUNCHER = """
import os, sys
read, write = (os.dup2(int(each), 50 + place) for place, each in enumerate(sys.argv[1:3]))
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def program() -> str | None:
    """Where the browser is, or None; CHROMIUM names another one."""
    names = (os.environ.get("CHROMIUM") or "", *PROGRAMS)
    return next((found for name in names if name and (found := shutil.which(name))), None)


@contextmanager
def started(folder: Path) -> Iterator["Chromium"]:
    """A browser with a profile of its own, ended afterwards."""
    found = program()
    assert found is not None
    to_read, from_us = os.pipe()
    from_it, to_write = os.pipe()
    words = [sys.executable, "-c", LAUNCHER, str(to_read), str(to_write), found, *OPTIONS]
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen(
            [*words, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(folder)},
        )
    os.close(to_read)
    os.close(to_write)
    try:
        yield Chromium(from_us, from_it)
    finally:
        os.close(from_us)
        os.close(from_it)
        process.kill()
        process.wait()


class Chromium:
    """The browser; `page` opens a tab."""

    def __init__(self, to: int, since: int) -> None:
        self._to = to
        self._since = since
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def page(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> "Tab":
        """Open an address and wait until it is loaded and its pictures are drawn."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Network", "Runtime", "Log"):
            tab.call(f"{domain}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        tab.media(dark=dark)
        self.events.clear()
        tab.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired", session)
        return tab

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer; what happens meanwhile is kept in `events`."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        text = json.dumps(asked | ({"sessionId": session} if session else {}))
        os.write(self._to, text.encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self.events.append(said)

    def wait_for(self, method: str, session: str) -> None:
        def happened(said: dict[str, Any]) -> bool:
            return said.get("method") == method and said.get("sessionId") == session

        while not any(happened(said) for said in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        until = monotonic() + LONGEST
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._since], [], [], max(0.0, until - monotonic()))
            assert ready, "The browser says nothing."
            chunk = os.read(self._since, 1 << 20)
            assert chunk, "The browser has ended."
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        return said


class Tab:
    """One open page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def media(self, *, dark: bool, kind: str = "") -> None:
        """Prefer dark or light, on a screen or on paper."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=kind, features=[feature])

    def asks(self, expression: str) -> Any:
        """What JavaScript says."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for the page to come so far."""
        found = self.asks(
            "new Promise((done) => { let left = 500; const look = () => { "
            f"if ({condition}) done(true); else if (left--) setTimeout(look, 20); else done(false); }}; "
            "look(); })"
        )
        assert found, f"This did not happen: {condition}"

    def texts(self, selector: str) -> list[str]:
        """The text of each element."""
        found = self.asks(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")
        assert isinstance(found, list)
        return found

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def printed(self) -> bytes:
        """The page as PDF, as it goes on paper."""
        return b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    @property
    def requested(self) -> list[str]:
        """Every address that was asked for since the tab was opened."""
        return [said["params"]["request"]["url"] for said in self._happened("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """Errors and refusals that the browser wrote down."""
        logged = [said["params"]["entry"]["text"] for said in self._happened("Log.entryAdded")]
        thrown = [
            str(said["params"]["exceptionDetails"]) for said in self._happened("Runtime.exceptionThrown")
        ]
        return logged + thrown

    def _happened(self, method: str) -> list[dict[str, Any]]:
        mine = [said for said in self._browser.events if said.get("sessionId") == self._session]
        return [said for said in mine if said.get("method") == method]

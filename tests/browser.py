"""A headless Chromium, driven over its DevTools protocol: it needs no driver beside it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from typing import Any

import websocket  # of websocket-client

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab.

    Args:
        executable: path of a Chromium
        seconds: how long to wait for anything

    """

    def __init__(self, executable: str, seconds: float = 60) -> None:
        self.seconds = seconds
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [executable, "--headless=new", "--remote-debugging-port=0", "--no-sandbox",
             "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update",
             "--remote-allow-origins=*", f"--user-data-dir={self._profile.name}", "about:blank"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        address = self._address()
        self._socket = websocket.create_connection(address, timeout=seconds)
        targets = self._send("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _address(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.search(r"DevTools listening on (ws://\S+)", line)
            if found:
                return found[1]
        raise RuntimeError(f"the browser ended with status {self._process.wait()}")

    def _send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        return self._send(method, self._session, **parameters)

    def size(self, width: int, height: int) -> None:
        """Set the size of the window in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)

    def theme(self, name: str) -> None:
        """Say what the system's theme is, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def click(self, element: str) -> None:
        """Click an element with the mouse, once nothing that moves away lies above it.

        Args:
            element: a JavaScript expression

        Raises:
            AssertionError: something else stays above its middle, or it is not on the screen

        """
        end = time.monotonic() + self.seconds
        while not (place := self._place(element))[2] and time.monotonic() < end:
            time.sleep(0.05)
        x, y, hit, above = place
        assert hit, f"{element} cannot be clicked at {x:.0f}, {y:.0f}: {above} is there"
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _place(self, element: str) -> tuple[float, float, bool, str]:
        """Return the middle of an element, whether it is on top there, and what is."""
        place = self.run(
            f"(() => {{ const e = {element};"
            " if (!e) return null;"
            " e.scrollIntoView({block: 'nearest', behavior: 'instant'});"
            " const r = e.getBoundingClientRect();"
            " const [x, y] = [r.x + r.width / 2, r.y + r.height / 2];"
            " const found = document.elementFromPoint(x, y);"
            " return [x, y, e.contains(found), found?.outerHTML.slice(0, 99)]; })()"
        )
        assert place is not None, f"no such element: {element}"
        return tuple(place)

    def open(self, address: str, leads_to: str = "") -> None:
        """Open a page, or the one that it leads on to, and wait until what it holds is there."""
        self.events.clear()
        self.send("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(leads_to or address)}"
                  " && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            TimeoutError: it is not, in time

        """
        end = time.monotonic() + self.seconds
        while True:
            try:
                if self.run(condition):
                    return
            except RuntimeError as error:
                if not re.search("navigated|context", str(error)):
                    raise
                # the page was left while it was asked: the next one answers
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.05)

    def errors(self) -> list[str]:
        """Return what went wrong on the page: exceptions, console errors, failed requests."""
        found = []
        for event in self.events:
            values = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    details = values["exceptionDetails"]
                    thrown = details.get("exception", {}).get("description", "")
                    found.append(f"{details['text']} {thrown}")
                case "Runtime.consoleAPICalled" if values["type"] in ("error", "assert"):
                    found.append(" ".join(str(a.get("value", "")) for a in values["args"]))
                case "Log.entryAdded" if values["entry"].get("url", "").endswith("/favicon.ico"):
                    pass  # the browser's own request, on the page that only redirects
                case "Log.entryAdded" if values["entry"]["level"] == "error":
                    found.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
                case "Network.loadingFailed" if not values.get("canceled"):
                    found.append(f"{values['errorText']} ({values['type']})")
        return found

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(self.seconds)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._profile.cleanup()

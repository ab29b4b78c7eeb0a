"""A real Chromium without a window, driven by Debian's chromedriver over plain WebDriver."""

from __future__ import annotations

import base64
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from attribute_courier.sandbox import LeashedProcess

from .waiting import wait_until

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""How WebDriver names an element in its JSON."""
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c"}
"""As WebDriver writes them."""


REQUIRED = "COURIER_TESTS_NEED_CHROMIUM"
"""When this variable is set, a test that finds no Chromium fails instead of being skipped."""
_IS_REQUIRED = bool(os.environ.get(REQUIRED))  # before the tests scrub their environment


def is_there() -> bool:
    """Whether this machine has what is needed."""
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


def need_chromium() -> None:
    """Skip a test that needs it on a machine without."""
    if is_there():
        return
    text = "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
    if _IS_REQUIRED:
        pytest.fail(text)
    pytest.skip(text)


class Browser:
    """One window. Elements are named by CSS selectors."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._http = requests.Session()
        self._http.trust_env = False

    def _do(self, method: str, path: str, **body: Any) -> Any:
        answer = self._http.request(
            method, self._session + path, json=body if method == "POST" else None, timeout=60
        )
        value = answer.json()["value"]
        assert answer.ok, f"{path}: {value.get('message', value)}"
        return value

    def open(self, url: str) -> None:
        self._do("POST", "/url", url=url)

    @property
    def url(self) -> str:
        found: str = self._do("GET", "/url")
        return found

    def run(self, script: str, *args: Any) -> Any:
        """The value that some JavaScript returns."""
        return self._do("POST", "/execute/sync", script=script, args=list(args))

    def text(self, selector: str = "body") -> str:
        """What a person can read there."""
        found: str = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return found

    def count(self, selector: str) -> int:
        found: int = self.run("return document.querySelectorAll(arguments[0]).length", selector)
        return found

    def _find(self, selector: str) -> str:
        found: str = self._do("POST", "/element", using="css selector", value=selector)[_ELEMENT]
        return found

    def click(self, selector: str) -> None:
        self._do("POST", f"/element/{self._find(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        self._do("POST", f"/element/{self._find(selector)}/value", text=text)

    def press(self, key: str) -> None:
        """A key for whatever has the focus."""
        actions = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        self._do("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def devtools(self, command: str, **params: Any) -> Any:
        return self._do("POST", "/goog/cdp/execute", cmd=command, params=params)

    def log_in(self, user: str, password: str) -> None:
        """Answer what the site asks for by Basic authentication."""
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.devtools("Network.enable")
        self.devtools("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {word}"})

    def look_like(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and the theme that its system has."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, *, height: int | None = None) -> None:
        """A PNG of the page: all of it, or its upper part."""
        size = self.run(
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], height or 10**6)}
        found = self.devtools(
            "Page.captureScreenshot", clip=clip | {"scale": 1}, captureBeyondViewport=True
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """Errors in the page's console since the last call."""
        entries = self._do("POST", "/se/log", type="browser")
        return [each["message"] for each in entries if each["level"] == "SEVERE"]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A new Chromium that knows nothing yet; what it writes lands in this folder."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    root = f"http://127.0.0.1:{port}"
    with (folder / "chromedriver.log").open("wb") as log:
        driver = LeashedProcess(
            ["chromedriver", f"--port={port}"],
            # Chromium has a socket there, whose path must be short.
            env=dict(os.environ) | {"HOME": str(folder), "TMPDIR": "/tmp"},  # noqa: S108
            stdout=log,
            stderr=log,
        )
    http = requests.Session()
    http.trust_env = False

    def ready() -> bool:
        try:
            return bool(http.get(f"{root}/status", timeout=5).json()["value"]["ready"])
        except requests.ConnectionError:
            return False

    try:
        wait_until(ready, what="chromedriver answers")
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": shutil.which("chromium"),
                "args": [*FLAGS, f"--user-data-dir={folder / 'chromium'}"],
            },
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = http.post(
            f"{root}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=60
        ).json()["value"]
        assert "sessionId" in answer, answer
        yield Browser(f"{root}/session/{answer['sessionId']}")
        http.delete(f"{root}/session/{answer['sessionId']}", timeout=20)
    finally:
        driver.stop(10)

"""A real headless Chromium, driven through its driver by the WebDriver protocol; it reaches this host only."""

import base64
import json
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.support.ports import free_port
from tests.support.waiting import eventually

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    # One process renders all pages: a new one for each load takes half of the CPU of a load.
    "--renderer-process-limit=1", "--disable-site-isolation-trials",
    "--disable-features=IsolateOrigins,site-per-process,SpareRendererForSitePerProcess,BackForwardCache",
)  # fmt: skip


class Browser:
    """One Chromium with a profile of its own; a context manager.

    Args:
        home: an empty directory for its profile and the driver's log.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self._session = ""

    def __enter__(self) -> Self:
        """Start driver and browser."""
        self._driver = subprocess.Popen(  # noqa: S603 -- a test's tool
            ["chromedriver", f"--port={self._port}", f"--log-path={self._home / 'driver.log'}"],  # noqa: S607 -- the same
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60, trust_env=False, verify=False)
        eventually(self._listens, what="chromedriver listens")
        options = {"binary": shutil.which("chromium"), "args": [*_FLAGS, f"--user-data-dir={self._home / 'profile'}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        made = self._http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
        assert "sessionId" in made, made
        self._session = f"/session/{made['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both."""
        if self._session:
            self._http.delete(self._session)
        self._http.close()
        self._driver.terminate()
        self._driver.wait(60)

    def open(self, url: str) -> None:
        """Load a page, to its end; of the page before it nothing more is heard."""
        self._command("url", url="about:blank")
        self.requests()
        self.complaints()
        self._command("url", url=url)

    def run(self, script: str, *values: Any) -> Any:
        """Return what a function's body returns in the page."""
        return self._command("execute/sync", script=script, args=list(values))

    def before_each_page(self, script: str) -> None:
        """Run a script at the begin of each page that is loaded from now on."""
        self._command("goog/cdp/execute", cmd="Page.addScriptToEvaluateOnNewDocument", params={"source": script})

    def emulate(self, width: int, scheme: str) -> None:
        """Show the page so wide, in CSS pixels, to a reader who prefers `light` or `dark`."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._command("goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)
        self._command("goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=media)

    def forget_cookies(self) -> None:
        """Drop all cookies, as a browser does that is signed in nowhere."""
        self._command("goog/cdp/execute", cmd="Network.clearBrowserCookies", params={})

    def screenshot(self) -> bytes:
        """Return the visible part of the page as PNG."""
        return base64.b64decode(self._command_get("screenshot"))

    def requests(self) -> list[str]:
        """Return the addresses of all requests that pages made since this was last asked."""
        return [url for _, url, _ in self.sent()]

    def sent(self) -> list[tuple[str, str, str]]:
        """Return method, address and body of all requests that pages made since this or `requests` was last asked."""
        told = [json.loads(entry["message"])["message"] for entry in self._command("se/log", type="performance")]
        made = [message["params"]["request"] for message in told if message["method"] == "Network.requestWillBeSent"]
        return [(each["method"], each["url"], each.get("postData", "")) for each in made]

    def add_header(self, name: str, value: str) -> None:
        """Send a header with every request from now on, as a proxy in between does."""
        self._command("goog/cdp/execute", cmd="Network.enable", params={})
        self._command("goog/cdp/execute", cmd="Network.setExtraHTTPHeaders", params={"headers": {name: value}})

    def point_at(self, x: float, y: float) -> None:
        """Move the pointer to a point of the window, in CSS pixels."""
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y), "origin": "viewport"}
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self._command("actions", actions=[mouse])

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as WebDriver names them."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._command("actions", actions=[{"type": "key", "id": "keys", "actions": strokes}])

    def complaints(self) -> list[str]:
        """Return what stands on the console since this was last asked: violations of a page's policy, and errors."""
        return [entry["message"] for entry in self._command("se/log", type="browser")]

    def _command(self, path: str, **members: Any) -> Any:
        answer = self._http.post(f"{self._session}/{path}", json=members).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def _command_get(self, path: str) -> str:
        return str(self._http.get(f"{self._session}/{path}").json()["value"])

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True

"""A served manager for each test, and its admin."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.api.served import HttpAgent, Served
from tests.integration.api.terminal import Terminal


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


@pytest.fixture
def admin(served: Served) -> Iterator[httpx2.Client]:
    with served.client() as client:
        yield client


@pytest.fixture
def agent(served: Served) -> Iterator[HttpAgent]:
    """An agent over HTTP that has joined the served manager."""
    agent = served.join()
    with agent.client:
        yield agent


@pytest.fixture
def terminal(served: Served) -> Terminal:
    return Terminal(served)


class _Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a dashboard</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The address of a page that is not the manager's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()

"""A command or a guard that is given the other port or the other scheme says which one is right to look for.

Not with two managers: commands and guards find out what is wrong by themselves, before any manager is asked.
"""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.status import read_status
from manager.cli import app
from tests.integration.guard.guard_thread import GuardThread
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

NO_TLS = "does not speak TLS: write {}:// if it has none, and see that the port is"
PLAIN = "ended the connection without an {} answer: write {}s:// if it has TLS, and see that the port is"
OTHER = "ended the connection without an {} answer: see that the port is"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp("plain")) as manager:
        yield manager


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp("secured"), tls=True) as manager:
        yield manager


CASES = [
    ("plain", "http", "https", NO_TLS.format("http")),
    ("plain", "http", "mqtt", PLAIN.format("MQTT", "mqtt")),
    ("plain", "http", "mqtts", NO_TLS.format("mqtt")),
    ("plain", "mqtt", "http", PLAIN.format("HTTP", "http")),
    ("plain", "mqtt", "https", NO_TLS.format("http")),
    ("plain", "mqtt", "mqtts", NO_TLS.format("mqtt")),
    ("secured", "http", "http", PLAIN.format("HTTP", "http")),
    ("secured", "http", "mqtt", PLAIN.format("MQTT", "mqtt")),
    ("secured", "http", "mqtts", OTHER.format("MQTT")),
    ("secured", "mqtt", "http", PLAIN.format("HTTP", "http")),
    ("secured", "mqtt", "https", OTHER.format("HTTP")),
    ("secured", "mqtt", "mqtt", PLAIN.format("MQTT", "mqtt")),
]


def _url(request: pytest.FixtureRequest, manager: str, door: str, scheme: str) -> tuple[ManagerProcess, str]:
    served: ManagerProcess = request.getfixturevalue(manager)
    return served, f"{scheme}://127.0.0.1:{getattr(served, door).rpartition(':')[2]}"


@pytest.mark.parametrize(("manager", "door", "scheme", "told"), CASES)
def test_a_command_names_what_does_not_fit(
    request: pytest.FixtureRequest, manager: str, door: str, scheme: str, told: str
) -> None:
    """Exit code 3 and one line with the address, the likely scheme and the right port."""
    served, url = _url(request, manager, door, scheme)
    words = ["agents", "list", "--manager", url] if scheme.startswith("http") else ["traffic", "--broker", url]
    done = CliRunner().invoke(app, [*words, "--data-dir", str(served.data)])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert f"{url} {told}" in done.stderr


@pytest.mark.parametrize(("manager", "door", "scheme", "told"), CASES)
def test_a_guard_names_what_does_not_fit(
    request: pytest.FixtureRequest, tmp_path: Path, *, manager: str, door: str, scheme: str, told: str
) -> None:
    """The reason stands in its status, and it goes on trying."""
    served, url = _url(request, manager, door, scheme)
    guard = GuardThread(tmp_path, url, (served.data / "enroll.token").read_text().strip(), StringIO())
    guard.start()
    try:
        eventually(lambda: f"{url} {told}" in str(read_status(guard.directory).get("notConnected")), what="the reason")
    finally:
        guard.stop()
    assert guard.failure is None

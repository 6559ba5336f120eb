"""The HAProxy configuration of docs/scale.md in front of two managers and a broker, one manager killed."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from manager.tls.client_context import client_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.several_managers import DatabaseManagers
from tests.support.waiting import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.mosquitto, pytest.mark.haproxy]

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


class Fleet:
    """Two managers with TLS of one authority, a broker, and the proxy in front of both."""

    def __init__(self, home: Path, database: str, broker: Mosquitto) -> None:
        self.home = home
        self.http = free_port()
        self.mqtt = free_port()
        self.group = DatabaseManagers(home, database, broker.url)
        own = {"PANGUARD_TRUSTED_PROXIES": "127.0.0.1"}
        self.managers = [self._secure(self.group.add(**own)) for _ in range(2)]
        self._broker = broker

    def _secure(self, manager: ManagerProcess) -> ManagerProcess:
        authority = TlsDirectory(self.group.all[0].data)
        if manager is self.group.all[0]:
            ended = subprocess.run(  # noqa: S603 -- our own command
                [sys.executable, "-m", "panguard", "manager", "certs", "init", "--data-dir", str(manager.data)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr
        else:
            manager.data.mkdir(mode=0o700, parents=True)
            shutil.copytree(authority.path, TlsDirectory(manager.data).path)
        manager.http = manager.http.replace("http:", "https:")
        manager.trust = client_context(authority.certificate(AUTHORITY))
        return manager

    def configuration(self) -> Path:
        """Write the page's configuration with this machine's addresses, and the files that it names."""
        (text,) = re.findall(r"```haproxy\n(.*?)```", PAGE.read_text(), re.DOTALL)
        tls = self.managers[0].data / "tls"
        (self.home / "fleet.pem").write_text((tls / "http.crt").read_text() + (tls / "http.key").read_text())
        shutil.copy(tls / "ca.crt", self.home / "fleet-ca.crt")
        replaced = {
            "maxconn 50000": "maxconn 200",  # twice as many file descriptors are more than a test may have
            "/etc/haproxy/": f"{self.home}/",
            "bind :8443": f"bind 127.0.0.1:{self.http}",
            "bind :8883": f"bind 127.0.0.1:{self.mqtt}",
            "broker.example.org:8883": self._broker.url.removeprefix("mqtt://"),
        }
        for number, manager in enumerate(self.managers, 1):
            replaced[f"manager-{number}.example.org:8443"] = manager.http.removeprefix("https://")
            replaced[f"verifyhost manager-{number}.example.org"] = "verifyhost localhost"
        for before, here in replaced.items():
            assert before in text
            text = text.replace(before, here)
        assert "example.org" not in text
        path = self.home / "haproxy.cfg"
        path.write_text(text)
        return path

    def client(self) -> httpx2.Client:
        """Return the admin's client, which knows the proxy alone."""
        token = (self.managers[0].data / "admin.token").read_text().strip()
        return httpx2.Client(
            base_url=f"https://localhost:{self.http}", headers={"Authorization": f"Bearer {token}"},
            timeout=60, verify=self.managers[0].trust, trust_env=False,
        )  # fmt: skip

    def threats(self) -> int:
        """Return how many reports the fleet has, asked through the proxy; -1 while nobody answers."""
        with self.client() as client:
            try:
                answer = client.get("/api/threats")
            except httpx2.TransportError:
                return -1
        return len(answer.json()["data"]) if answer.status_code == httpx2.codes.OK else -1


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Postgresql() as cluster, Mosquitto() as broker:
        fleet = Fleet(tmp_path, cluster.create_empty().url, broker)
        yield fleet
        fleet.group.stop()


def _haproxy() -> str:
    path = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert path is not None
    return path


def _stands_by(manager: ManagerProcess) -> bool:
    return manager.role() == "standby" and manager.not_ready() is None


@contextlib.contextmanager
def _served(fleet: Fleet) -> Iterator[None]:
    """Check the configuration, start both managers and the proxy, and wait until it serves."""
    first, second = fleet.managers
    configuration = fleet.configuration()
    checked = subprocess.run(  # noqa: S603 -- the installed program, with our own file
        [_haproxy(), "-c", "-f", str(configuration)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
    first.launch()
    eventually(lambda: first.role() == "leader" and first.not_ready() is None, 120, "the first leads")
    second.launch()
    eventually(lambda: _stands_by(second), 120, "the second stands by")
    with (fleet.home / "haproxy.log").open("wb") as log:
        proxy = subprocess.Popen([_haproxy(), "-db", "-f", str(configuration)], stdout=log, stderr=log)  # noqa: S603
    try:
        eventually(lambda: proxy.poll() is None and fleet.threats() == 0, 120, "the proxy serves")
        yield
    finally:
        proxy.terminate()
        proxy.wait(60)


@pytest.mark.long("tests/faults/test_nothing_is_lost.py")
def test_the_fleet_goes_on_behind_the_proxy_when_a_manager_is_killed(fleet: Fleet) -> None:
    """A guard and an administrator know the proxy alone; the leader is killed, and reports and answers go on."""
    first, second = fleet.managers
    with _served(fleet):
        guard = GuardProcess(first, "web-1", url=f"mqtt://127.0.0.1:{fleet.mqtt}")
        try:
            guard.start()
            guard.attacked_by("203.0.113.1")
            eventually(lambda: fleet.threats() == 1, 120, "the report, through the proxy")
            first.kill()
            guard.attacked_by("203.0.113.2")
            eventually(lambda: fleet.threats() == 2, 120, "the report after the fail-over, through the proxy")
            assert second.role() == "leader"
        finally:
            guard.stop()


@pytest.mark.long("tests/faults/test_nothing_is_lost.py")
@pytest.mark.parametrize("protocol", ["mqtt", "http"])
def test_simulated_agents_lose_nothing_through_the_proxy(fleet: Fleet, protocol: str) -> None:
    """Over MQTT or HTTP, with the leader killed: every report is stored once, as asked through the proxy."""
    first, second = fleet.managers
    with _served(fleet):
        door = ["--http"] if protocol == "http" else ["--manager", f"mqtt://127.0.0.1:{fleet.mqtt}"]
        line = [
            sys.executable, "-m", "panguard", "simulate", *door,
            "--agents", "10", "--threats", "200", "--rate", "20", "--patience", "3m",
            "--enroll-token-file", str(first.data / "enroll.token"), "--auth-token-file",
            str(first.data / "admin.token"), "-o", "json",
        ]  # fmt: skip
        ca = str(first.data / "tls" / "ca.crt")
        environment = {**os.environ, "MANAGER_URL": f"https://localhost:{fleet.http}", "SSL_CERT_FILE": ca}
        simulation = subprocess.Popen(  # noqa: S603 -- our own command
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        try:
            eventually(lambda: fleet.threats() >= 10, 120, "reports are stored")
            first.kill()
            output, _ = simulation.communicate(timeout=240)
        finally:
            simulation.kill()
            simulation.wait()
    assert simulation.returncode == 0, output[-3000:]
    assert second.role() == "leader"

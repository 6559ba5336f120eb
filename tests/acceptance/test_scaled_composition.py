"""The services of compose.scale.yaml as processes: their commands, with this machine's addresses for names.

Not with two managers besides: the composition has several managers and workers of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.provisioning.mosquitto_files import find_plugin
from manager.tls.client_context import client_context
from tests.support.composition import ROOT, mounts, services
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess, Panguard
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/unit/deployment/test_compose_file.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

SCALED = services(ROOT / "compose.scale.yaml")
MEMBERS = ("manager", "manager-2", "worker-1", "worker-2")


class Member(ManagerProcess):
    """One manager or worker of the composition."""

    def __init__(self, home: Path, words: list[str], environment: dict[str, str], port: int, *, tls: bool) -> None:
        super().__init__(home)
        self._words = words
        self._own = environment
        self.http = f"{'https' if tls else 'http'}://localhost:{port}"

    def launch(self) -> Panguard:
        """Start it, and wait for nothing."""
        self.running = Panguard(self.home / "manager.log", *self._words, environment=self._own)
        return self.running


class Composition:
    """Both files' services: volumes are directories, names are ports of loopback."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = {name: free_port() for name in MEMBERS}
        self.broker_port = free_port()
        self.websocket_port = free_port()
        self.database = Postgresql()
        self.broker = Mosquitto(configuration=home / "broker" / "broker.conf", port=self.broker_port)
        self.members: dict[str, Member] = {}

    def words(self, name: str) -> list[str]:
        """Return a service's command on this machine."""
        service = SCALED.get(name) or services()[name]
        return [self._placed(name, word) for word in service["command"]]

    def environment(self, name: str) -> dict[str, str]:
        """Return a service's variables on this machine."""
        return {key: self._placed(name, value) for key, value in SCALED[name].get("environment", {}).items()}

    def _placed(self, name: str, text: str) -> str:
        own = {mount.target: mount.volume for part in (SCALED, services()) for mount in mounts(part.get(name, {}))}
        for target, volume in own.items():
            text = text.replace(target, str(self.home / volume))
        for service, port in self.ports.items():
            text = text.replace(f"https://{service}:8443", f"https://localhost:{port}")
        replaced = {
            "--port=8443": f"--port={self.ports.get(name)}",
            "--port=8883": f"--port={self.broker_port}",
            "--websocket-port=8884": f"--websocket-port={self.websocket_port}",
            "broker:8883": f"localhost:{self.broker_port}",
            "@database/": f"@127.0.0.1:{self.database.port}/",
            "/usr/lib/mosquitto_dynamic_security.so": str(find_plugin()),
        }
        for before, here in replaced.items():
            text = text.replace(before, here)
        return text.replace("--host=0.0.0.0", "--host=127.0.0.1")

    def prepare(self) -> None:
        """Run the services that end by themselves."""
        for volume in ("manager", "broker", "database-password", "manager-2", "worker-1", "worker-2"):
            (self.home / volume).mkdir(mode=0o700)
        for name in ("certificates", "prepare-broker"):
            command = [sys.executable, "-m", "panguard", *self.words(name)]
            command += ["--user=root"] if name == "prepare-broker" and os.geteuid() == 0 else []
            ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own
            assert ended.returncode == 0, (name, ended.stdout, ended.stderr)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for _ in range(2):  # the second run keeps what the first one made
            command = [*SCALED["database-password"]["entrypoint"], *self.words("database-password")]
            subprocess.run(command, check=True, env={"PATH": path})  # noqa: S603 -- the words of the file
            kept = self.password
        assert len(kept) == 64
        assert kept == self.password
        assert (self.home / "database-password" / "password").stat().st_mode & 0o077 == 0

    @property
    def password(self) -> str:
        """The database user's password."""
        return (self.home / "database-password" / "password").read_text().strip()

    def start(self) -> None:
        """Start the members, in the order of the file."""
        self.database.execute("CREATE DATABASE panguard")
        ca = self.home / "manager" / "tls" / "ca.crt"
        for name in MEMBERS:
            tls = "--host=0.0.0.0" in SCALED[name]["command"]
            member = Member(
                self.home / name, self.words(name), self.environment(name), self.ports[name], tls=tls
            )  # fmt: skip
            member.data = self.home / name
            member.mqtt = f"mqtts://localhost:{self.broker_port}"
            member.trust = client_context(ca) if tls else False
            self.members[name] = member
            member.launch()
            wanted = {"manager": "leader", "manager-2": "standby"}.get(name, "ingest")
            eventually(
                lambda member=member, wanted=wanted: member.role() == wanted and member.not_ready() is None,  # type: ignore[misc]
                120, f"{name} is {wanted}",
            )  # fmt: skip

    def stop(self) -> None:
        """End the members, last first."""
        for member in reversed(list(self.members.values())):
            member.stop()

    def is_well(self, name: str) -> bool:
        """Return whether the service's own health check succeeds."""
        words = [self._placed(name, word) for word in SCALED.get(name, {}).get("healthcheck", _checked())["test"][2:]]
        command = [sys.executable, "-m", "panguard", *words]
        environment = {**os.environ, **self.environment(name)}
        return subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0  # noqa: S603


def _checked() -> dict[str, Any]:
    return dict(services()["manager"]["healthcheck"])


@pytest.fixture
def composition(tmp_path: Path) -> Iterator[Composition]:
    composition = Composition(tmp_path)
    composition.prepare()
    with composition.database, composition.broker:
        try:
            composition.start()
            yield composition
        finally:
            composition.stop()


def test_the_composition_goes_on_without_its_first_manager(composition: Composition) -> None:
    """Four processes are healthy; a guard's reports are stored before and after the leader is killed."""
    first, second = composition.members["manager"], composition.members["manager-2"]
    assert [name for name in MEMBERS if not composition.is_well(name)] == []
    ca = composition.home / "manager" / "tls" / "ca.crt"
    guard = GuardProcess(second, "web-1", {"SSL_CERT_FILE": str(ca)})
    try:
        guard.start()
        guard.attacked_by("203.0.113.1")
        eventually(lambda: len(second.get("/api/threats")) == 1, 120, "the report, asked of the one that stands by")
        first.kill()
        guard.attacked_by("203.0.113.2")
        eventually(lambda: second.role() == "leader" and second.not_ready() is None, 120, "the second leads")
        eventually(lambda: len(second.get("/api/threats")) == 2, 120, "the report of the time between")
        eventually(lambda: all(map(composition.is_well, MEMBERS[1:])), 120, "the others are well")
    finally:
        guard.stop()


def test_no_secret_stands_in_the_file() -> None:
    """Variables name files; every service that is not PostgreSQL's is contained as in compose.yaml."""
    contained = ("user", "read_only", "cap_drop", "security_opt", "mem_limit", "cpus", "pids_limit", "logging")
    added = {name: service for name, service in SCALED.items() if name not in services()}
    for name, service in added.items():
        assert all(service.get(key) for key in contained), name
        assert (service["user"], service["cap_drop"]) == (services()["manager"]["user"], ["ALL"])
        values = list(service.get("environment", {}).values())
        assert [value for value in values if value != "panguard" and not value.startswith("/var/lib/panguard/")] == []
    assert [mount for mount in mounts(SCALED["worker-1"]) if mount.volume == "manager" and not mount.read_only] == []

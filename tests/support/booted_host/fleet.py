"""A manager and a guard on a booted host."""

import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from agent.status import read_status
from tests.support.booted_host.machine import BootedHost
from tests.support.processes import PACE
from tests.support.waiting import eventually

MANAGER = "/var/lib/panguard-manager"
GUARD = "/var/lib/panguard"
INSTALLED = "/var/lib/panguard/guard"
UNITS = ("panguard-guard", "panguard-fence")


class HostFleet:
    """One manager on the host, and one guard that is no root and reads what its groups may read.

    Args:
        host: The host of the manager, and of the guard.
        address: The address that the manager listens on; with TLS, unless it is the host's loopback.
    """

    def __init__(self, host: BootedHost, address: str = "127.0.0.1") -> None:
        self.host = host
        self.data = GUARD
        self._address = address
        self._has_tls = address != "127.0.0.1"
        self._url = f"http{'s' * self._has_tls}://{address}:8443"
        self._token = ""

    @property
    def broker(self) -> str:
        """The address that guards are given."""
        return f"mqtt{'s' * self._has_tls}://{self._address}:1883"

    @property
    def _trusted(self) -> ssl.SSLContext | bool:
        if not self._has_tls:
            return False  # nothing to verify, and no certificates to load at each request
        return ssl.create_default_context(cadata=self.host.path(f"{MANAGER}/tls/ca.crt").read_text())

    def start_manager(self, environment: Mapping[str, str] | None = None, properties: Sequence[str] = ()) -> None:
        """Start the manager as a unit with properties of systemd's, and wait until it is ready."""
        if self._has_tls:
            made = self.host.panguard("manager", "certs", "init", "--host", self._address, "--data-dir", MANAGER)
            assert made.returncode == 0, made
        words = ["manager", "start", "--data-dir", MANAGER, "--host", self._address]
        self.host.service("manager", *words, environment={**PACE, **(environment or {})}, properties=properties)
        eventually(self._ready, what="the manager", pause=0.2)
        eventually(self.host.path(f"{MANAGER}/enroll.token").exists, what="the first enrollment token", pause=0.2)
        self._token = self.host.path(f"{MANAGER}/admin.token").read_text().strip()

    def _ready(self) -> bool:
        def ask() -> bool:
            try:
                return bool(httpx2.get(f"{self._url}/health/ready", timeout=60, verify=self._trusted).is_success)
            except (httpx2.HTTPError, OSError):
                return False

        return self.host.within(ask)

    def start_guard(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the guard as user panguard with the groups adm and systemd-journal; wait until it is registered."""
        host = self.host
        if host.result("id", "panguard").returncode:
            host.run("useradd", "--system", "--groups", "adm,systemd-journal", "panguard")
        host.run("install", "-d", "-o", "panguard", "-m", "700", GUARD)
        host.run("install", "-o", "panguard", "-m", "600", f"{MANAGER}/enroll.token", "/run/enroll.token")
        start = ["guard", "start", "--manager", self.broker, "--data-dir", GUARD]
        start += ["--enroll-token-file", "/run/enroll.token", *words]
        host.service("guard", *start, user="panguard", environment={**PACE, **(environment or {})})
        eventually(lambda: self.agent().get("status") == "online", what="the guard online", pause=0.2)

    def install(
        self,
        mode: str = "protection",
        environment: Mapping[str, str] | None = None,
        *,
        options: Sequence[str] = (),
        paced: bool = True,
        manager: "HostFleet | None" = None,
    ) -> None:
        """Install guard and fence as the product does, as units; wait until the guard is online and can block.

        Args:
            options: Further words for the guard's start.
            mode: The host's mode.
            environment: Further settings of both.
            manager: Whose manager it enrolls at; None for the one on this host.
            paced: With the short intervals of tests; else those that a guard has by default.
        """
        for unit in UNITS:
            settings = {**(PACE if paced else {}), **(environment or {})}
            lines = "".join(f"Environment={name}={value}\n" for name, value in settings.items())
            self.host.write(f"/etc/systemd/system/{unit}.service.d/20-test.conf", f"[Service]\n{lines}")
        manager = manager or self
        token = manager.host.path(f"{MANAGER}/enroll.token").read_text()
        self.host.write("/run/enroll.token", token, 0o600)
        words = ["guard", "install", "--manager", manager.broker, "--mode", mode]
        words.append("--force")  # the program is a developer's
        words += [f"--option={option}" for option in options]
        done = self.host.panguard(*words, "--enroll-token-file", "/run/enroll.token")
        assert done.returncode == 0, (done, self.host.journal("--unit=panguard-*"))
        self.data = INSTALLED
        self.wait_until_online()

    def wait_until_online(self) -> None:
        """Wait until the guard is online and can block."""

        def ready() -> bool:
            kept = self.kept_status()
            if (kept.get("state"), kept.get("enforcement")) != ("online", "nftables"):
                return False
            told = self.host.panguard("guard", "status", "--data-dir", self.data, "-o", "json")
            fields = json.loads(told.stdout) if told.returncode == 0 else {}
            return (fields.get("state"), fields.get("enforcement")) == ("online", "nftables")

        try:
            eventually(ready, what="the guard online", pause=0.2)
        except AssertionError as error:
            error.add_note(self.host.journal("--unit=panguard-*", "--lines=20"))
            raise

    def blocked(self) -> dict[str, dict[str, Any]]:
        """Return the measures in the kernel by address, as the fence lists them; a block rather than a throttle."""
        done = self.host.panguard("guard", "blocks", "list", "-o", "json")
        assert done.returncode == 0, done
        measures = sorted(json.loads(done.stdout), key=lambda each: each["measure"] == "block")
        return {each["value"]: each for each in measures}

    def entries(self, address: str | None = None) -> list[dict[str, Any]]:
        """Return the fence's measures, all or those over an address, asked at its socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.host.path("/run/panguard/fence.sock")))
            connection.sendall(
                json.dumps({"request": "list", **({} if address is None else {"value": address})}).encode() + b"\n"
            )
            with connection.makefile("rb") as answers:
                return list(json.loads(answers.readline())["entries"])

    def in_kernel(self, address: str) -> bool:
        """Return whether nftables has a block of an IPv4 address."""
        words = ("nft", "get", "element", "inet", "panguard", "block4", f"{{ {address} }}")
        return self.host.result(*words).returncode == 0

    def stop_guard(self) -> None:
        """End the guard."""
        self.host.run("systemctl", "stop", "guard")

    def get(self, path: str, **query: Any) -> Any:
        """Return the data of an answer of the manager's API; follows nextCursor."""

        def ask() -> Any:
            headers, found = {"Authorization": f"Bearer {self._token}"}, []
            while True:
                answer = httpx2.get(
                    f"{self._url}{path}", params=query, headers=headers, timeout=60, verify=self._trusted
                )
                body = answer.raise_for_status().json()
                if not isinstance(body["data"], list):
                    return body["data"]
                found += body["data"]
                if not body.get("nextCursor"):
                    return found
                query["cursor"] = body["nextCursor"]

        return self.host.within(ask)

    def manager(self, *words: str) -> str:
        """Return what a command of the manager prints."""
        done = self.host.panguard("manager", *words, "--data-dir", MANAGER, environment={"COLUMNS": "250"})
        assert done.returncode == 0, done
        return done.stdout

    def put_policy(self, document: Mapping[str, Any]) -> None:
        """Set the guard's own policy at the manager."""
        path = f"/api/policies/agents/{self.agent()['agentId']}"

        def put() -> None:
            headers = {"Authorization": f"Bearer {self._token}"}
            url = f"{self._url}{path}"
            httpx2.put(url, json=document, headers=headers, timeout=60, verify=self._trusted).raise_for_status()

        self.host.within(put)

    def agent(self) -> dict[str, Any]:
        """Return the manager's record of the guard; empty before there is one."""
        found = self.get("/api/agents")
        return dict(found[0]) if found else {}

    def threats(self, source: str | None = None) -> list[dict[str, Any]]:
        """Return the reports that the manager has, of one source or all."""
        found = self.get("/api/threats", limit=200)
        return [each for each in found if source in {None, each["threat"]["evidence"].get("sourceIp")}]

    def rules(self, source: str) -> set[tuple[str, str]]:
        """Return rule and severity of the reports on a source."""
        return {(each["threat"]["ruleId"], each["threat"]["severity"]) for each in self.threats(source)}

    def health(self) -> int:
        """Return the exit code of `guard health`."""
        return self.host.panguard("guard", "health", "--data-dir", self.data).returncode

    def kept_status(self) -> dict[str, Any]:
        """Return the guard's status file, for polls: a command takes half a second of CPU for the same."""
        return read_status(self.host.path(self.data))

    def status(self) -> dict[str, Any]:
        """Return what `guard status` prints."""
        told = self.host.panguard("guard", "status", "--data-dir", self.data, "-o", "json").stdout
        return dict(json.loads(told))

    def log(self) -> str:
        """Return what the guard has logged."""
        return self.host.path("/var/log/guard.log").read_text()

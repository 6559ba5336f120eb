"""Manager and guards as real processes on free loopback ports, to be killed at will."""

import contextlib
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from manager.tls.client_context import client_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from tests.support.migrated_store import end_with_stores, has_two_managers, store_environment
from tests.support.ports import free_port
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

PACE = {
    "PANGUARD_HEARTBEAT_INTERVAL": "0.5",
    "PANGUARD_STALE_AFTER": "30",
    "PANGUARD_SWEEP_INTERVAL": "1",
    "PANGUARD_SETTLING_TIME": "1",
    "PANGUARD_RECONNECT_BASE": "0.2",
    "PANGUARD_RECONNECT_CAP": "1",
    "PANGUARD_RECEIPT_TIMEOUT": "3",
}


class Panguard:
    """One `panguard` process; its standard output is kept, its standard error goes to a file."""

    def __init__(
        self,
        log: Path,
        *words: str,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.log = log
        self.lines: list[str] = []
        with log.open("ab") as error:
            self.process = subprocess.Popen(  # noqa: S603 -- our own command, no shell
                [sys.executable, "-m", "panguard", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=error,
                env={**os.environ, **PACE, **(environment or {})},
                cwd=directory,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.process.stdout as output:  # type: ignore[union-attr]
            for line in output:
                self.lines.append(line.decode(errors="replace").strip())

    def line(self, start: str, within: float = 120.0) -> str:
        """Return the first printed line that starts so."""

        def look() -> str | None:
            if self.process.poll() is not None and not any(line.startswith(start) for line in self.lines):
                raise AssertionError(f"ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            return next((line for line in self.lines if line.startswith(start)), None)

        return str(eventually(look, within, f"a line {start!r}; {self.log.read_text()[-2000:]}"))

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self._ended()

    def terminate(self) -> int:
        """Ask it to stop and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(60)
        self._reader.join(60)
        return code


class ManagerProcess:
    """A manager on fixed ports, so that it can be killed and started again; a context manager.

    Its store is on the database system of the present test. Where that has two managers, and the broker would be the
    embedded one or is one that was prepared for it, it stands by for a leader, which is started, killed and stopped
    with it.

    Args:
        home: the directory of its files.
        broker: the broker's URL, or a broker that was prepared for its data directory.
        environment: variables of its environment.
        tls: whether its doors have certificates of its own.
    """

    def __init__(
        self,
        home: Path,
        broker: str | ProductionMosquitto = "embedded",
        environment: Mapping[str, str] | None = None,
        *,
        tls: bool = False,
    ) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self.data = home / "manager"
        given = dict(environment or {})
        own = {} if "PANGUARD_DATABASE" in given else store_environment(self.data)
        self._environment = {**own, **given}
        self._role = "leader" if own else None
        self._leader: _Leader | None = None
        secure = "s" if tls else ""
        self.trust: ssl.SSLContext | bool = False  # without TLS no certificates are loaded: they take 35 ms of CPU
        if tls:
            certificates = TlsDirectory(self.data)
            if not certificates.path.exists():
                certificates.init((), datetime.now(UTC))
            self.trust = client_context(certificates.certificate(AUTHORITY))
        if has_two_managers() and (broker == "embedded" or isinstance(broker, ProductionMosquitto)):
            self._environment = {"PANGUARD_KEY_FILE": str(home / "manager.key"), **self._environment}
            prepared = None if isinstance(broker, str) else broker
            self._leader = _Leader(home / "leader", self._environment, self.data, prepared)
            self._role = "standby"
            broker = self._leader.broker
        self._broker = broker if isinstance(broker, str) else broker.url.replace("mqtt:", f"mqtt{secure}:")
        self._ports = (free_port(), free_port())
        self.http = f"http{secure}://127.0.0.1:{self._ports[0]}"
        self.mqtt = f"mqtt{secure}://127.0.0.1:{self._ports[1]}" if broker == "embedded" else self._broker
        self.running: Panguard | None = None

    @property
    def leader(self) -> "ManagerProcess":
        """The manager that serves what this one passes on; itself where it stands by for none."""
        return self if self._leader is None else self._leader.manager

    @property
    def key_file(self) -> Path:
        """The file with the key that seals its secrets."""
        return Path(self._environment.get("PANGUARD_KEY_FILE", self.data / "manager.key"))

    def configure(self, text: str) -> None:
        """Write the configuration file of each manager."""
        for manager in {self, self.leader}:
            manager.data.mkdir(mode=0o700, exist_ok=True)
            (manager.data / "manager.toml").write_text(text)

    def logs(self) -> str:
        """Return what each manager has logged."""
        return "".join((manager.home / "manager.log").read_text() for manager in {self, self.leader})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running is not None:
            self.running.terminate()
        if self._leader is not None:
            self._leader.end()

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until both doors are open, or only until it serves HTTP."""
        if self._leader is not None:
            self._leader.start()
        running = self.launch()
        if wait:
            running.line("ready ")
            if self._role is not None:  # after a kill nobody leads for some seconds
                eventually(lambda: self.role() == self._role and self.not_ready() is None, what="a manager leads")
        else:
            eventually(lambda: self.not_ready() is not False, what="the HTTP door")

    def launch(self) -> Panguard:
        """Start it, and wait for nothing."""
        http, mqtt = self._ports
        words = ["manager", "start", "--data-dir", str(self.data), "--port", str(http)]
        words += ["--mqtt-port", str(mqtt), "--broker", self._broker]
        self.running = Panguard(self.home / "manager.log", *words, environment=self._environment)
        return self.running

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.running is not None
        self.running.kill()
        if self._leader is not None:
            self._leader.manager.kill()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit code."""
        assert self.running is not None
        code = self.running.terminate()
        return code if self._leader is None else code or self._leader.stop()

    def not_ready(self) -> str | bool | None:
        """Return the reason why the manager is not ready; None if it is ready, False if it does not answer."""
        try:
            with httpx2.Client(base_url=self.http, timeout=60, verify=self.trust, trust_env=False) as client:
                answer = client.get("/health/ready")
        except httpx2.HTTPError:
            return False
        return None if answer.status_code == httpx2.codes.OK else str(answer.json()["error"])

    def role(self) -> str | None:
        """Return the role among the managers of its database; None for a store of its own, or without an answer."""
        try:
            with httpx2.Client(base_url=self.http, timeout=60, verify=self.trust, trust_env=False) as client:
                role: str | None = client.get("/health").json().get("role")
        except httpx2.HTTPError:
            return None
        return role

    def client(self) -> httpx2.Client:
        """Return the admin's HTTP client."""
        token = (self.data / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.http, headers=headers, timeout=60, verify=self.trust, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        """Return the data of an answer of the HTTP API; follows nextCursor."""
        records: list[Any] = []
        with self.client() as client:
            while True:
                answer = client.get(path, params=query)
                answer.raise_for_status()
                body = answer.json()
                if not isinstance(body["data"], list):
                    return body["data"]
                records += body["data"]
                if not body.get("nextCursor"):
                    return records
                query["cursor"] = body["nextCursor"]

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Return the data of an answer to a changing request."""
        with self.client() as client:
            answer = client.request(method, path, params=query, **({} if body is None else {"json": body}))
            answer.raise_for_status()
            return answer.json()["data"]

    def agent(self, hostname: str) -> dict[str, Any]:
        """Return the one agent with this hostname, or an empty record."""
        found = [agent for agent in self.get("/api/agents") if agent["hostname"] == hostname]
        assert len(found) <= 1
        return found[0] if found else {}


class _Leader:
    """The leader for a manager that stands by, and the broker of both: a Mosquitto with the shipped configuration.

    Args:
        home: the directory of its files.
        environment: variables of its environment.
        data: the data directory of the other manager; its certificates are those of both.
        broker: a broker that was prepared for that directory and is not ended here; None for one of its own.
    """

    def __init__(
        self, home: Path, environment: Mapping[str, str], data: Path, broker: ProductionMosquitto | None
    ) -> None:
        home.mkdir(exist_ok=True)
        self._of_the_other = data
        self._own_broker = broker is None
        self.broker = broker or ProductionMosquitto(home / "manager", home / "broker")
        tls = (data / "tls").exists()
        if tls:
            shutil.copytree(data / "tls", home / "manager" / "tls")
            (home / "manager").chmod(0o700)
        scheme = "mqtts:" if tls else "mqtt:"
        self.manager = ManagerProcess(home, self.broker.url.replace("mqtt:", scheme), environment, tls=tls)
        self._broker_runs = False
        end_with_stores(self.end)

    def start(self) -> None:
        """Start what does not run; wait until the manager leads."""
        if self._own_broker and not self._broker_runs:
            self.broker.__enter__()
            self._broker_runs = True
        if not self._own_broker:
            self._copy_logins()
        self.manager.start()
        eventually(lambda: self.manager.role() == "leader" and self.manager.not_ready() is None, what="it leads")

    def _copy_logins(self) -> None:
        """Copy what `broker init` left in the other's data directory, as an operator does."""
        self.manager.data.mkdir(mode=0o700, exist_ok=True)
        for name in ("broker.password", "observer.credential"):
            if not (self.manager.data / name).exists():
                shutil.copy(self._of_the_other / name, self.manager.data / name)

    def stop(self) -> int:
        """End the manager, and a broker of its own as the embedded one ends; return the manager's exit code."""
        code = self.manager.stop()
        if self._own_broker:
            self.broker.stop()
            self._broker_runs = False
        return code

    def end(self) -> None:
        """End both and remove the broker's files."""
        if self.manager.running is not None:
            self.manager.stop()
        if self._own_broker:
            self.broker.__exit__(None, None, None)


class GuardProcess:
    """A guard with its own data directory and its own sshd log, on a host whose clock is `skew` seconds off.

    It is given the broker's URL, or another one of the manager's.
    """

    def __init__(
        self,
        manager: ManagerProcess,
        hostname: str,
        environment: Mapping[str, str] | None = None,
        skew: float = 0.0,
        url: str | None = None,
    ) -> None:
        self.skew = skew
        self.url = url or manager.mqtt
        self.manager = manager
        self.hostname = hostname
        self.data = manager.home / f"guard-{hostname}"
        self.auth_log = manager.home / f"{hostname}.auth.log"
        self.auth_log.touch()
        self._environment = environment or {}
        self._port = 40_000
        self.running: Panguard | None = None

    def start(self, *words: str, wait: bool = True) -> str:
        """Start it; return its agent id."""
        start = ["guard", "start", "--manager", self.url, "--data-dir", str(self.data)]
        start += ["--trust-log", str(self.auth_log), "--hostname", self.hostname, "--mode", "protection"]
        start += ["--enroll-token-file", str(self.manager.data / "enroll.token"), *words]
        log = self.manager.home / f"{self.hostname}.log"
        self.running = Panguard(log, *start, environment=self._environment)
        return self.agent_id() if wait else ""

    def agent_id(self, within: float = 120.0) -> str:
        """Return the id that it printed, or prints within so many seconds."""
        assert self.running is not None
        line = self.running.line("guard ready ", within)
        return dict(word.partition("=")[::2] for word in line.split()[2:])["agentId"]

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.running is not None
        self.running.kill()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit code."""
        return 0 if self.running is None else self.running.terminate()

    def attacked_by(self, *addresses: str, failures: int = 5) -> None:
        """Write failed logins into its log: one threat for each address."""
        with self.auth_log.open("a") as log:
            for address in addresses:
                for _ in range(failures):
                    self._port += 1
                    stamp = (datetime.now(UTC) + timedelta(seconds=self.skew)).isoformat()
                    log.write(
                        f"{stamp} {self.hostname} sshd[{self._port}]: "
                        f"Failed password for root from {address} port {self._port} ssh2\n"
                    )


def spooled(guard: GuardProcess) -> int:
    """Return how many reports wait in the guard's outbox."""
    with contextlib.closing(sqlite3.connect(guard.data / "guard.db")) as database:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])

"""A host that replays ssh traffic through the guard's and the fence's own code, on a table in memory as its kernel."""

import json
import shutil
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from uuid_utils.compat import uuid7

from agent.clock import Clock
from agent.detect.detection_chain import DetectionChain
from agent.events import Record, RecordOrigin
from agent.manager_time import ManagerTime
from agent.report.login_reports import LoginReports
from agent.report.threat_report import report_body
from agent.respond.connections import ConnectionCounts, with_connections
from agent.respond.enforcement import Enforcement
from agent.respond.fence import Fence
from agent.respond.fence_client import FenceClient
from agent.respond.mode import ModeControl
from agent.respond.own_blocks import OwnBlocks
from agent.respond.recording_responder import RecordingResponder
from agent.storage.database import Database
from fence.addresses import Address
from fence.config import build
from fence.host import Host
from fence.manifest import Manifest
from fence.service import Clocks, Peer
from fence.service import Fence as Service
from schemas.presence import Mode, ReportedLogin
from tests.support.accounts import FakeAccounts
from tests.support.kernel_twin import KernelTwin

GUARD_UID = 10_001
BOOT = "11111111-1111-1111-1111-111111111111"
_HEAD = "  sl  local_address rem_address   st\n"
_LISTENING = "   0: 00000000:0016 00000000:0000 0A 0\n"


class _Witness(KernelTwin):
    """A kernel that has answered every address: the traffic is real."""

    def has_seen(self, port: int, address: Address) -> bool:
        del port, address
        return True


class _InProcess(FenceClient):
    """A client whose fence is in this process."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def ask(self, request: str, **members: Any) -> dict[str, Any]:
        line = json.dumps({"request": request, **members})
        answer: dict[str, Any] = json.loads(json.dumps(self._service.answer(Peer(GUARD_UID), json.loads(line))))
        return answer


class ProtectedHost:
    """A host's detection, response and fence on a clock that its log moves.

    Args:
        root: a directory of the host's own.
        mode: learning, or a confirmed protection.
        customers: addresses with an established connection to the host's web server.
    """

    def __init__(self, root: Path, mode: Mode, customers: tuple[str, ...] = ()) -> None:
        self.now = 1_000_000.0
        tables = root / "proc/net"
        tables.mkdir(parents=True)
        (tables / "tcp").write_text(_HEAD + _LISTENING + "".join(map(_established, customers)))
        shutil.copy(_empty_database(), root / "guard.db")
        self._database = Database.open(root / "guard.db")
        self._database.connection.execute("PRAGMA synchronous = OFF")
        clock = Clock(lambda: self.now, lambda: self.now)
        self.kernel = _Witness()
        fence = Fence(_InProcess(self._service(root)), clock, ManagerTime(clock))
        fence.check(self.now)
        control = ModeControl(self._database, clock, ManagerTime(clock), host=mode)
        self._enforcement = Enforcement(
            responder=RecordingResponder(self._database),
            own=OwnBlocks(self._database),
            organization=list,
            mode=control,
            protected=["192.0.2.1"],
            duration=4 * 3600,
            clock=clock,
            fence=fence,
        )
        self._enforcement.tick(self.now)
        if mode is Mode.PROTECTION:
            control.confirm()
        self._respond = with_connections(
            self._enforcement.respond, ConnectionCounts(clock.monotonic, tables), lambda: fence.ssh_ports
        )
        self._logins = LoginReports()
        self._chain = DetectionChain(FakeAccounts(), UTC, logged_in=self._logins.add)
        self._origin = RecordOrigin("file:auth.log")

    def read(self, at: float, message: str) -> list[bytes]:
        """Read one message of sshd; return the bodies of the reports on it, without agentId."""
        self.now = at
        stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        record = Record(f"{stamp} srv sshd[1]: {message}", self._origin, vouched=True)
        verdicts = self._chain.examine(record, at).threats
        self._chain.saved()
        return [report_body(str(uuid7()), verdict, self._respond(verdict, False)) for verdict in verdicts]

    def logins(self) -> list[ReportedLogin]:
        """Return the logins of the next heartbeat."""
        return self._logins.take()

    def close(self) -> None:
        """Close the guard's database."""
        self._database.close()

    def _service(self, root: Path) -> Service:
        service = Service(
            build({"protected_ports": [22], "guard_uid": GUARD_UID, "sign_keys": []}),
            kernel=self.kernel,
            manifest=Manifest(root / "state", BOOT),
            host=Host(root),
            clocks=Clocks(lambda: self.now, lambda: self.now),
            boot_id=BOOT,
            log=lambda _event: None,
        )
        service.enforcement.missing = lambda: None  # type: ignore[method-assign] -- no capability is needed
        return service


@cache
def _empty_database() -> Path:
    """Return a guard's database that is migrated once and copied for each host."""
    directory = TemporaryDirectory()
    _kept.append(directory)
    path = Path(directory.name) / "guard.db"
    Database.open(path).close()
    return path


_kept: list["TemporaryDirectory[str]"] = []
"""Removed when the process ends."""


def _established(address: str) -> str:
    digits = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    return f"   1: 0A00000A:01BB {digits}:9C41 01 0\n"

"""Staged nights: fleets with a night behind them, told to a manager's engine by the messages of its agents.

`python -m tests.support.staged_nights quiet|login|hurt` serves the console of one, prints its address and a viewer's
token, and keeps the fleet alive until it is interrupted. Times are those of the machine's clock: the night ends now.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manager.domain.agents.registry import Takeover
from manager.domain.response import ResponderSettings
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.model import utc
from schemas.presence import Enforced
from schemas.threats import ResponseTaken, Severity, Threat, ThreatReport
from tests.integration.api.served import LOOPBACK, Served
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

HOUR = 3600.0
LENGTH = 1.5 * HOUR
"""Seconds from the registration of the fleet to now."""

BEAT = 60.0
STEP = 5.0
INTRUDER, USER, ENTERED = "203.0.113.9", "deploy", "db-1"
FRIEND, HURT = "198.51.100.20", "web-3"
SILENT = "mail-1"
WAITING = "203.0.113.77"
_SCANS = ("ssh_scan", "brute_force", "port_scan")


@dataclass
class Night:
    """A fleet and the time that it lives in.

    Args:
        bench: the engine that its messages reach.
        hosts: number of agents.
        seed: chooses who is scanned, when, and by whom.
    """

    bench: Bench
    hosts: int
    seed: int = 7
    agents: dict[str, SimulatedAgent] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Register the fleet with one token."""
        self.dice = random.Random(self.seed)  # noqa: S311 -- the same night each time
        token = self.bench.token()
        kinds = ("web", "db", "mail", "app", "build")
        for number in range(self.hosts):
            name = f"{kinds[number % len(kinds)]}-{number // len(kinds) + 1}"
            self.agents[name] = self.bench.enroll(name, token, organization_id="acme", version="0.2.0")
        self.beat()

    def beat(self) -> None:
        """Send a heartbeat of each agent that is not silent."""
        for name, agent in self.agents.items():
            if name not in self.silent:
                body = agent.heartbeat(
                    self.bench.wall, health="ok", enforcement="nftables", enforced=Enforced(set=3), cpu=7.0, memory=31.0
                )
                self.bench.put(topics.HEARTBEAT, agent.agent_id, body)
        self.bench.engine.step(self.bench.now)

    def pass_until(self, ago: float, now: float) -> None:
        """Let time pass, with heartbeats, until so many seconds before now."""
        while self.bench.wall < now - ago:
            self.bench.pass_time(min(BEAT, now - ago - self.bench.wall), step=STEP)
            self.beat()

    def report(
        self,
        name: str,
        kind: str,
        severity: str,
        response: ResponseTaken,
        *,
        count: int = 1,
        proven: bool = True,
        **evidence: Any,
    ) -> None:
        """Let an agent report a threat that happens now; `proven` is whether it vouches for address and user."""
        agent = self.agents[name]
        vouched = [key for key in ("sourceIp", "user") if proven and key in evidence]
        threat = Threat(
            type=kind,
            confidence=80,
            severity=Severity(severity),
            technique="T1110",
            evidence=evidence,
            count=count,
            vouched=vouched,
        )
        number = f"{self.dice.getrandbits(128):032x}"
        made = ThreatReport(
            id=number, agent_id=agent.agent_id, threat=threat, response=response, timestamp=utc(self.bench.wall)
        )
        self.bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, made.body()))

    def scans(self, count: int) -> None:
        """Let some hosts be scanned, each by an address of its own or of two hosts; each is blocked on its host."""
        for _ in range(count):
            address = f"198.18.{self.dice.randrange(256)}.{self.dice.randrange(1, 255)}"
            for name in self.dice.sample(sorted(set(self.agents) - self.silent), self.dice.choice((1, 1, 1, 2))):
                self.report(name, self.dice.choice(_SCANS), self.dice.choice(("low", "medium")), blocked(address),
                            sourceIp=address, targetService="sshd")  # fmt: skip


def blocked(address: str, **members: Any) -> ResponseTaken:
    """Return the response of a guard that blocked an address."""
    return ResponseTaken(action="block_ip", target=address, outcome="taken", **members)


def quiet(night: Night, now: float) -> None:
    """Scans only; everything is blocked where it was seen."""
    for ago in (75, 60, 40, 20, 5):
        night.pass_until(ago * 60, now)
        night.scans(8)


def login(night: Night, now: float) -> None:
    """A login after failures on one host, an hour ago, among the noise of scans."""
    night.pass_until(75 * 60, now)
    night.scans(8)
    night.pass_until(62 * 60, now)
    night.report(ENTERED, "brute_force", "high", blocked(INTRUDER), sourceIp=INTRUDER, user=USER, targetService="sshd")
    night.pass_until(60 * 60, now)
    night.report(
        ENTERED, "login_after_failures", "critical",
        ResponseTaken(action="throttle_ip", target=INTRUDER, outcome="taken"), count=12,
        sourceIp=INTRUDER, user=USER, userExists=True, method="password", targetService="sshd",
    )  # fmt: skip
    for ago in (45, 20, 5):
        night.pass_until(ago * 60, now)
        night.scans(8)


def hurt(night: Night, now: float) -> None:
    """A block that cut a friend's connections, a silent guard, and an approval with ten minutes left."""
    night.pass_until(75 * 60, now)
    night.scans(6)
    night.pass_until(50 * 60, now)
    for name in ("web-1", "db-1", "app-1"):
        night.report(name, "brute_force", "high", blocked(WAITING), sourceIp=WAITING, targetService="sshd")
    night.pass_until(35 * 60, now)
    night.report(HURT, "brute_force", "medium", blocked(FRIEND, connections=2), sourceIp=FRIEND, targetService="sshd")
    night.pass_until(25 * 60, now)
    night.silent.add(SILENT)
    night.pass_until(8 * 60, now)
    night.scans(4)


NIGHTS: dict[str, Callable[[Night, float], None]] = {"quiet": quiet, "login": login, "hurt": hurt}
"""The nights by name."""

_RESPONDER = ResponderSettings(approval_time=HOUR, organization_age=24 * HOUR)


@contextmanager
def staged(directory: Path, name: str, hosts: int, now: float) -> Iterator[tuple[Served, Night]]:
    """Serve the console of a manager that has a night behind it.

    Args:
        directory: an empty directory for the store.
        name: one of `NIGHTS`.
        hosts: number of agents.
        now: the end of the night, in seconds since 1970.
    """
    settings = EngineSettings(takeover=Takeover.ALLOW, responder=_RESPONDER)
    bench = Bench(directory, settings, at=now - LENGTH)
    night = Night(bench, hosts)
    NIGHTS[name](night, now)
    night.pass_until(0, now)
    with Served(directory, bench=bench, client_addresses=LOOPBACK, rate_limit=0) as served:
        yield served, night


def _live(served: Served, night: Night) -> None:
    """Keep the fleet alive in real time until it is interrupted."""
    beaten = time.time()
    while True:
        # the pace of a fleet that is shown until somebody interrupts it; no test runs this
        time.sleep(0.5)
        with served.bench() as bench:
            bench.elapsed = max(bench.elapsed, time.time() - bench.began)
            bench.engine.step(bench.now)
            if time.time() - beaten > BEAT / 2:
                beaten = time.time()
                night.beat()


def main() -> None:
    """Serve one night until it is interrupted."""
    name = sys.argv[1] if len(sys.argv) == 2 and sys.argv[1] in NIGHTS else ""
    if not name:
        sys.exit(f"usage: python -m tests.support.staged_nights {'|'.join(NIGHTS)}")
    with (
        tempfile.TemporaryDirectory() as directory,
        staged(Path(directory), name, 300, time.time()) as (served, night),
        served.client() as admin,
    ):
        made = admin.post("/api/access", json={"name": "eyes", "role": "viewer"}).json()["data"]
        sys.stdout.write(json.dumps({"night": name, "url": f"{served.url}/", "token": made["token"]}) + "\n")
        sys.stdout.flush()
        _live(served, night)


if __name__ == "__main__":
    main()

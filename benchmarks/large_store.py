"""Makes a store with a large fleet, a day of threats, incidents and an audit log."""

import json
import random
import time
from collections.abc import Iterator

from benchmarks.load import Sender
from manager.domain.agents.agent import Agent, Door, InForce, State, credential_of
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.host import Host
from manager.domain.correlation import Incident, Indicator
from manager.domain.policies.fleet_policies import Policies
from manager.domain.policies.groups import Placement
from manager.engine.batch import AuditEntry, Changes, ThreatRow
from manager.runtime import clock
from manager.storage.location import StoreLocation
from manager.storage.opening import open_migrated_store
from manager.storage.store import PeeweeStore
from schemas.keys import AgentKeys, new_secret
from schemas.model import iso

DAY = 86_400
IN_ONE = 500
"""Threats in a transaction."""

_AGENTS_IN_ONE = 5_000
"""Agents in a transaction: PostgreSQL ends a session that computes for seconds within one."""

ORGANIZATIONS = 20
RARE = "rootkit"
"""A type that one threat in 100,000 has."""

_SOURCES = 20_000
"""Addresses, each of which attacks one organization."""

_INCIDENTS = 20_000
_CHANGES = 50_000
_QUIET = 900


def organization_of(number: int) -> str:
    """Return the organization of an agent."""
    return f"org-{number % ORGANIZATIONS}"


class LargeStore:
    """A large store and its agents' senders.

    Args:
        path: its file, or the address of an empty database.
        store_key: encrypts the agents' keys.
        agents: the number of agents; three in a hundred are stale, two offline.
        threats: the number of threats of the last day. The last quarter of an hour has none: threats that the
            correlator remembers are only ever stored together with their incidents.
        organizations: the number of organizations that the agents are in.
    """

    def __init__(
        self, path: StoreLocation, store_key: bytes, agents: int, threats: int, organizations: int = ORGANIZATIONS
    ) -> None:
        self._organizations = organizations
        self._path, self._store_key = path, store_key
        database = open_migrated_store(path)
        self._store = PeeweeStore(database, store_key, threat_retention=DAY)
        self._random = random.Random(1)  # noqa: S311 -- figures, no secrets
        self._agents = agents
        self._number = 0
        self.now = clock.read().wall
        self.senders: list[Sender] = []
        for changes in self._fleet():
            self._store.commit(changes)
        elapsed, used, began_at, span = 0.0, 0.0, self.now - DAY, DAY - _QUIET
        for start in range(0, threats, IN_ONE):
            batch = Changes(threats=[self._threat(began_at + span * start / threats) for _ in range(IN_ONE)])
            began, used_before = time.perf_counter(), time.thread_time()
            self._store.commit(batch)
            elapsed += time.perf_counter() - began
            used += time.thread_time() - used_before
        self.rate = threats / elapsed if threats else 0.0
        self.cpu_us = used / threats * 1e6 if threats else 0.0
        self._store.commit(self._incidents())
        self._store.commit(self._audit())
        database.close()

    def store_run(self) -> None:
        """Store a threat of each agent within the last minute, all with one technique, and no incident."""
        database = open_migrated_store(self._path)
        now = clock.read().wall
        threats = [self._threat(now - 60 * number / self._agents) for number in range(self._agents)]
        rows = [row._replace(agent_number=number) for number, row in enumerate(threats, 1)]
        PeeweeStore(database, self._store_key).commit(Changes(threats=rows))
        database.close()

    def _fleet(self) -> Iterator[Changes]:
        changes, policies = Changes(), Policies()
        for number in range(1, self._agents + 1):
            if len(changes.agents) >= _AGENTS_IN_ONE:
                yield changes
                changes = Changes()
            agent_id, organization_id = f"ag-{number:016x}", f"org-{number % self._organizations}"
            secret = new_secret()
            policy = policies.assign(agent_id, Placement(organization_id), self.now)
            tags = ("web", "berlin") if number % 10 == 0 else ("db",)
            host = Host.of(f"srv-{number}", f"Debian {number % 3 + 11}", "x64", "1.4", tags=tags)
            state = State.STALE if number % 100 < 3 else State.OFFLINE if number % 100 < 5 else State.ONLINE
            changes.agents[agent_id] = Agent(
                number, agent_id, organization_id, host, credential_of(secret), None, Door.MQTT, self.now - DAY, state,
                self.now - number, session=1, clock=ClockOffset(0.0, self.now, 1),
                in_force=InForce.of(policy.version, policy.resolved.digest, "applied"),
            )  # fmt: skip
            changes.policies[agent_id] = policy
            policy.published = True
            self.senders.append(
                Sender(agent_id, "", AgentKeys.derive(secret).mac_key, 1, policy.version, policy.resolved.digest)
            )
        yield changes

    def _threat(self, at: float) -> ThreatRow:
        self._number += 1
        agent = self._random.randint(1, self._agents)
        source = self._random.randrange(_SOURCES // ORGANIZATIONS) * ORGANIZATIONS + agent % ORGANIZATIONS
        address = f"198.18.{source >> 8}.{source & 255}"
        severity = self._random.choice(("low", "medium", "high", "critical"))
        type_ = self._random.choice(("brute_force", "port_scan", "malware", "exfiltration"))
        if self._number % 100_000 == 50_000:
            type_ = RARE
        document = {
            "id": f"t-{self._number:08x}",
            "timestamp": iso(at),
            "threat": {"type": type_, "confidence": 90, "evidence": {"sourceIp": address}},
            "response": "block_ip",
        }  # fmt: skip
        return ThreatRow(
            agent, f"t-{self._number:08x}", bytes(16), at, at, True, type_, severity,
            90.0, "T1110", address, None, json.dumps(document),
        )  # fmt: skip

    def _incidents(self) -> Changes:
        changes = Changes()
        for number in range(_INCIDENTS):
            at = self.now - DAY + DAY * number / _INCIDENTS
            incident = Incident(
                f"inc-{number:08x}", Indicator("source_ip", f"203.0.113.{number % 256}", organization_of(number), None),
                {}, at, at, at, at + 600, report_count=3,
            )  # fmt: skip
            changes.incidents[incident.id] = incident
            changes.members += [(incident.id, f"ag-{number % self._agents + 1:016x}", True, False)]
        return changes

    def _audit(self) -> Changes:
        return Changes(
            audit=[
                AuditEntry(
                    self.now - DAY,
                    "admin",
                    "policy.set",
                    f"policy:{number}",
                    "192.0.2.1",
                    None,
                    "admin",
                    None,
                    {"a": number},
                )
                for number in range(_CHANGES)
            ]
        )

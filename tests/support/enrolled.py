"""Fleets without registrations: agents written into a store before its manager starts, with what proves them."""

import time
from dataclasses import dataclass
from pathlib import Path

from manager.data_directory import DataDirectory
from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import Policies
from manager.domain.policies.groups import Placement
from manager.engine.batch import Changes
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.migrate import migrate
from manager.storage.sealed_values import key_for
from manager.storage.store import PeeweeStore
from schemas import message_codes, topics
from schemas.keys import AgentKeys, ManagerKeyring, new_secret
from schemas.model import iso


@dataclass(frozen=True, slots=True)
class Sender:
    """An enrolled agent, as one who sends for it needs it."""

    agent_id: str
    password: str
    mac_key: bytes
    session: int
    policy_version: int
    policy_digest: str

    def report(self, threat_id: str, size: int = 300) -> bytes:
        """Return one valid report of about `size` bytes, code included."""
        head = f'{{"id":"{threat_id}","agentId":"{self.agent_id}","threat":{{"type":"brute_force","confidence":80.0,'
        tail = f'"}}}},"response":"block_ip","timestamp":"{iso(time.time())}"}}'
        line = "x" * max(0, size - len(head) - len(tail) - 90)
        body = f'{head}"evidence":{{"user":"root","line":"{line}{tail}'
        return message_codes.with_mac(self.mac_key, topics.THREATS.below_root(self.agent_id), body.encode())


def enroll(path: Path, count: int) -> list[Sender]:
    """Write a fleet into the store of a data directory, as its registrations would have; return its agents."""
    now, senders, policies = time.time(), [], Policies()
    with DataDirectory(path) as directory:
        database = open_store(directory.store)
        tables.database.initialize(database)
        migrate(database, directory.store)
        agents = {}
        for number in range(1, count + 1):
            secret = new_secret()
            agent = _agent(number, secret, now)
            agents[agent.agent_id] = agent
            keys, policy = (
                AgentKeys.derive(secret),
                policies.assign(agent.agent_id, Placement(agent.organization_id), now),
            )
            senders.append(
                Sender(agent.agent_id, keys.mqtt_password, keys.mac_key, 1, policy.version, policy.resolved.digest)
            )
        PeeweeStore(database, ManagerKeyring(key_for(directory.key_file, directory.store)).store_key).commit(
            Changes(agents=agents)
        )
        database.close()
    return senders


def _agent(number: int, secret: bytes, now: float) -> Agent:
    return Agent(
        number=number,
        agent_id=f"ag-{number:016x}",
        organization_id="default",
        host=Host.of(f"host-{number}", "Debian 12", "x64", "1.0"),
        credential=credential_of(secret),
        token_id=None,
        door=Door.MQTT,
        registered_at=now,
        session=1,
        clock=ClockOffset(0.0, now, 1),
    )

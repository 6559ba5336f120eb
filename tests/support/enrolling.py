"""Simulated agents at a real broker: registered over MQTT with the manager's own token, and then connected."""

import json
import time
from typing import Any

from schemas import topics
from schemas.keys import EnrollmentToken
from tests.integration.broker.broker_clients import PahoClient
from tests.support.simulated import SimulatedAgent
from tests.support.sites import Site


def seal_key(port: int) -> str:
    """Return the key that secrets are sealed to, as the manager has announced it at the broker."""
    with PahoClient(port, "f" * 32, username="registration", password="registration") as client:
        client.connect()
        client.subscribe(topics.PREFIX + "manager/+")
        while (message := client.next()).topic != topics.MANAGER_KEYS.address():
            pass
    return str(json.loads(message.payload)["sealKey"])


def applicant(site: Site, hostname: str, token: EnrollmentToken | None = None) -> SimulatedAgent:
    """Return an agent that has not registered yet."""
    known = token or EnrollmentToken.parse((site.manager.data / "enroll.token").read_text().strip())
    return SimulatedAgent(hostname, known, seal_key(site.port), uptime_from=time.time())


def register(port: int, agent: SimulatedAgent, *, retain: bool = False, **members: Any) -> dict[str, Any]:
    """Register an agent, with the retain flag if it is to litter; return the manager's answer."""
    client_id, payload = agent.registration(time.time(), **members)
    with PahoClient(port, client_id, username="registration", password="registration") as client:
        client.connect()
        client.subscribe(topics.REGISTRATION_REPLY.address(client_id))
        client.publish(topics.REGISTRATION.address(client_id), payload.decode(), retain=retain)
        answer: dict[str, Any] = json.loads(client.next().payload)
    agent.agent_id, agent.session = answer.get("agentId", ""), answer.get("session", -1) + 1
    return answer


def connected(port: int, agent: SimulatedAgent) -> PahoClient:
    """Return a client of a registered agent that has sent its birth and a heartbeat."""
    client = PahoClient(
        port, f"{agent.agent_id}-{'e' * 32}", username=agent.agent_id, password=agent.keys.mqtt_password
    )
    client.connect()
    client.publish(topics.PRESENCE.address(agent.agent_id), agent.presence("online", time.time()).decode(), retain=True)
    client.publish(topics.HEARTBEAT.address(agent.agent_id), agent.heartbeat(time.time()).decode())
    return client

"""Fleets under attack: agents whose clocks are known, and the reports that make incidents."""

from typing import Any

from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

ATTACKER = "203.0.113.66"


def trusted(bench: Bench, *hostnames: str, **members: Any) -> list[SimulatedAgent]:
    """Return agents that came with one token and whose clocks are known."""
    token = bench.token()
    agents = [bench.enroll(hostname, token, **members) for hostname in hostnames]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    return agents


def attack(bench: Bench, *agents: SimulatedAgent, at: float | None = None, **evidence: Any) -> None:
    """Let each agent report one threat, of the attacker if nothing else is said."""
    for agent in agents:
        payload = agent.threat(bench.wall if at is None else at, **(evidence or {"sourceIp": ATTACKER}))
        bench.receive(topics.THREATS, agent.agent_id, payload)

"""SIGKILL of a real guard at any moment while its log shows attacks; started again at once.

Must hold: each attacker of the log is reported and stored once.
"""

from chaos.fault import Fault
from chaos.site import Site
from tests.support.processes import GuardProcess

_ATTACKERS = 3


def strike(site: Site) -> None:
    """Write attacks into a guard's log, kill it meanwhile, start it, and count its attackers at the manager."""
    url = site.manager.http if site.door == "http" else site.manager.mqtt
    guard = GuardProcess(site.manager, f"chaos-{site.dice.randrange(10**9)}", url=url)
    first = site.dice.randrange(2, 200)
    attackers = [f"203.0.113.{first + number}" for number in range(_ATTACKERS)]
    agent_id = site.start_guard(guard)
    try:
        for attacker in attackers:
            guard.attacked_by(attacker)
            site.wait(0.0, 0.5)
            site.kill(guard)
            site.start_guard(guard)
        site.until(lambda: _reported(site, agent_id) == sorted(attackers), f"{attackers} stored once each", 60)
    finally:
        guard.stop()


def _reported(site: Site, agent_id: str) -> list[str]:
    threats = site.manager.get("/api/threats", agentId=agent_id, limit=200)
    return sorted(each["threat"]["evidence"]["sourceIp"] for each in threats)


FAULT = Fault("guard killed (three times)", "kill", strike)

"""A real guard runs with a wrong wall clock: ±10 min, ±1 h, ±2 days; it reports attacks and sends heartbeats.

Must hold: each attacker is stored once, and no event lies after its receipt.
"""

from chaos.fault import Fault
from chaos.site import Site, SiteError, shifted_clock
from tests.support.processes import GuardProcess

OFFSETS = ("+10m", "-10m", "+1h", "-1h", "+2d", "-2d")


def strike(site: Site) -> None:
    """Run a guard with a wrong clock, and check the times of its report."""
    file = site.home / f"clock-{site.dice.randrange(10**9)}"
    environment = shifted_clock(file)
    file.write_text(site.dice.choice(OFFSETS))
    url = site.manager.http if site.door == "http" else site.manager.mqtt
    guard = GuardProcess(site.manager, f"clock-{site.dice.randrange(10**9)}", environment, url=url)
    agent_id = site.start_guard(guard)
    try:
        guard.attacked_by("203.0.113.77")
        site.until(lambda: len(_reports(site, agent_id)) == 1, "the attacker is stored", 60)
        (report,) = _reports(site, agent_id)
        if report["eventTime"] > report["receivedAt"]:
            raise SiteError(f"event time {report['eventTime']} lies after the receipt {report['receivedAt']}")
    finally:
        guard.stop()


def _reports(site: Site, agent_id: str) -> list[dict[str, str]]:
    return list(site.manager.get("/api/threats", agentId=agent_id, limit=200))


FAULT = Fault("guard's clock off from its start", "clock", strike)

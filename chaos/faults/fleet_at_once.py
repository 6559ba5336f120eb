"""Every connection of the fleet is cut while the manager is down, so that all agents come back at the same moment.

Must hold: all connect again, nothing is lost, no agent is flagged stale for it.
"""

from chaos.fault import Fault
from chaos.site import Site, SiteError


def strike(site: Site) -> None:
    """Kill the manager, cut all connections, start it, and look for stale agents."""
    site.kill(site.manager)
    site.proxy.cut()
    site.start_manager()
    site.wait_ready()
    site.wait(1.0, 2.0)
    stale = [agent["hostname"] for agent in site.manager.get("/api/agents", status="stale")]
    if stale:
        raise SiteError(f"{len(stale)} agents are stale, {stale[0]} first")


FAULT = Fault("whole fleet back at once", "fleet", strike)

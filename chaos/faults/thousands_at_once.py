"""Two thousand agents lose their manager while they report, and come back at one moment with reports waiting.

Must hold: all connect again, every report is stored once. If all are back before the time after which an agent is
stale, no agent is stale; in any case all are online in the end.
"""

import time

from chaos.fault import Fault
from chaos.site import Load, Site, SiteError

_AGENTS = 2000
_BACK_WITHIN = 180.0
_STALE_AFTER = 60
"""Seconds: three heartbeats of this fleet."""


def strike(site: Site) -> None:
    """Kill the manager, let reports accumulate, start the manager, and wait until all agents are connected."""
    site.wait(1.0, 2.0)
    site.kill(site.manager)
    site.until(lambda: site.connected() == 0, "every connection is gone")
    site.wait(3.0, 6.0)
    site.start_manager()
    began = time.monotonic()
    site.until(lambda: site.connected() == _AGENTS, f"all {_AGENTS} agents are back", _BACK_WITHIN)
    in_time = time.monotonic() - began < _STALE_AFTER
    site.wait_ready()
    stale = _stale(site)
    if in_time and stale:
        raise SiteError(f"{len(stale)} agents are stale, {stale[0]} first")
    site.until(lambda: not _stale(site), "no agent is stale")


def _stale(site: Site) -> list[str]:
    return [agent["hostname"] for agent in site.manager.get("/api/agents", status="stale", limit=200)]


FAULT = Fault(
    "2,000 agents back at once",
    "fleet",
    strike,
    doors=("embedded", "http"),
    environment=(("PANGUARD_STALE_AFTER", str(_STALE_AFTER)),),
    once=True,
    load=Load(_AGENTS, 300.0, is_direct=True, seconds=600.0, shared_attackers=0.01),
)

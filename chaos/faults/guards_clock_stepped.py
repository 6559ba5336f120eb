"""A real guard's wall clock, and its log's, are stepped while it runs: ±10 min, ±1 h, ±2 days, to 1971 and to 2039.

Must hold: the guard stays connected, and after each step it reports an attacker that is stored once, with no event
after its receipt.
"""

from datetime import UTC, datetime

from chaos.fault import Fault
from chaos.site import Site, SiteError, shifted_clock
from tests.support.processes import GuardProcess

_STEPS = ("+10m", "-10m", "+1h", "-1h", "+2d", "-2d", "@1971-06-01 12:00:00", "@2039-06-01 12:00:00")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_AT_ONCE = 3
_FIRST = 10


def strike(site: Site) -> None:
    """Step a guard's clock three times, attack after each step, and check the times of its reports."""
    file = site.home / f"clock-{site.dice.randrange(10**9)}"
    environment = shifted_clock(file)
    url = site.manager.http if site.door == "http" else site.manager.mqtt
    guard = GuardProcess(site.manager, f"step-{site.dice.randrange(10**9)}", environment, url=url)
    agent_id = site.start_guard(guard)
    try:
        seen: list[str] = []
        for number, step in enumerate(site.dice.sample(_STEPS, _AT_ONCE)):
            file.write_text(step)
            guard.skew = _skew(step)
            seen.append(f"203.0.113.{_FIRST + number}")
            guard.attacked_by(seen[-1])
            site.until(lambda: _attackers(site, agent_id) == seen, f"{seen} stored once each, the last at {step}", 60)
        for report in _reports(site, agent_id):
            if report["eventTime"] > report["receivedAt"]:
                raise SiteError(f"event time {report['eventTime']} lies after the receipt {report['receivedAt']}")
        if guard.running is None or guard.running.process.poll() is not None:
            raise SiteError("the guard has ended")
    finally:
        guard.stop()


def _skew(step: str) -> float:
    """Return the clock's offset after a step, in the format of libfaketime's file."""
    if step.startswith("@"):
        there = datetime.strptime(step, "@%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        return (there - datetime.now(UTC)).total_seconds()
    return float(step[:-1]) * _SECONDS[step[-1]]


def _reports(site: Site, agent_id: str) -> list[dict[str, str]]:
    return list(site.manager.get("/api/threats", agentId=agent_id, limit=200))


def _attackers(site: Site, agent_id: str) -> list[str]:
    threats = site.manager.get("/api/threats", agentId=agent_id, limit=200)
    return sorted(each["threat"]["evidence"]["sourceIp"] for each in threats)


FAULT = Fault("guard's clock stepped (three times)", "clock", strike)

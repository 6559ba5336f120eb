"""Plans at a manager that a test runs: quick to reconnect, with heartbeats every second."""

from typing import Any

from simulate import Plan
from tests.support.processes import ManagerProcess

_QUICK = {
    "reconnect_base": 0.2,
    "reconnect_cap": 1.0,
    "receipt_timeout": 3.0,
    "patience": 40.0,
    "heartbeat_interval": 1.0,
}
_SMALL = {"agents": 12, "threats": 240, "rate": 120.0, "shared_attackers": 0.5, "heartbeats": True}
KINDS = ("lost", "doubled", "altered", "refused", "unsent")


def plan(at: ManagerProcess, **members: Any) -> Plan:
    """Return a plan at this manager: by default 12 agents over MQTT, and 240 reports in two seconds."""
    given = {
        "manager": at.mqtt,
        "admin": at.http,
        "enroll_token": (at.data / "enroll.token").read_text(),
        "auth_token": (at.data / "admin.token").read_text().strip(),
    }
    return Plan(**(given | _SMALL | _QUICK | members))


def assert_even(found: dict[str, Any], threats: int = 240) -> None:
    """Fail unless so many reports were sent, and each is stored once, as it was sent."""
    assert {kind: found[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0), found["examples"]
    assert (found["sent"], found["stored"], found["balanced"]) == (threats, threats, True)

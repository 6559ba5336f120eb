"""Plans for unit tests: their addresses are never connected to."""

from typing import Any

from schemas.keys import EnrollmentToken, ManagerKeyring
from simulate.plan import Plan

TOKEN = EnrollmentToken.new(ManagerKeyring(bytes(32)).sign_public)


def plan(**members: Any) -> Plan:
    """Return a plan with these members."""
    given = {
        "manager": "mqtt://127.0.0.1:1883",
        "admin": "http://127.0.0.1:8443",
        "enroll_token": str(TOKEN),
        "auth_token": "admin-secret",
    }
    return Plan(**(given | members))

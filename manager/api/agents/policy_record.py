"""Policies under the names that earlier agents and admin tools read."""

from typing import Any

from manager.engine.commands.requests import AgentPolicy


def http_superset(policy: AgentPolicy) -> dict[str, Any]:
    """Return an agent's policy with the names that earlier guards read beside its own."""
    return {
        **policy.document,
        "policyId": f"pol-{policy.digest[:16]}",
        "policyVersion": policy.version,
        "version": policy.version,
        "appliedAt": policy.document["updatedAt"],
    }

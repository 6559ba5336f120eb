"""The state that commands change, as an engine has it in memory: a restart must load the same."""

from collections.abc import Container
from typing import Any

from tests.support.blocks import blocked
from tests.support.engine import Bench


def memory_of(bench: Bench) -> dict[str, Any]:
    """Return responses, blocks, documents and agents of the default organization.

    What is of an agent that is removed is left out: it is in force nowhere, and expires.
    """
    fleet = bench.fleet
    agents = fleet.registry.agents
    entries, responses = fleet.responder.entries, fleet.responder.responses
    known = [incident_id for (incident_id,) in bench.rows("SELECT id FROM incident")]
    return {
        "entries": sorted(
            (each.id, each.incident_id, each.expires_at)
            for each in entries
            if _is_held(each.scope, each.target, agents)
        ),
        "manual": sorted(
            (each.id, each.value, each.expires_at)
            for each in entries.manual
            if _is_held(each.holder.scope, each.holder.target, agents)
        ),
        "responses": {each: found.state for each in known if (found := responses.get(each)) is not None},
        "waiting": sorted(fleet.waiting_approvals),
        "frozen": fleet.responder.frozen,
        "counted": fleet.responder.organization_response,
        "agents": {each.agent_id: (each.hostname, each.state) for each in agents.values()},
        "documents": {
            str(scope): document
            for scope, document in fleet.policies.documents.items()
            if _is_held(scope.kind, scope.target, agents)
        },
        "policies": {key: each.resolved.sections["blocklist"] for key, each in fleet.policies.effective.items()},
        "blocklist": sorted(blocked(bench)),
        "never": sorted(fleet.blocklists.never.get("default", ())),
    }


def _is_held(scope: str, target: str, agents: Container[str]) -> bool:
    return scope != "agent" or target in agents

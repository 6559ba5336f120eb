"""Merged policy: an HTTP agent's own policy with its organization's blocklist, under the higher of the two versions.

Over MQTT these are two topics with two numbers; an HTTP agent polls one document (wire contract, section 4).
"""

from typing import Any

from manager.domain.agents.agent import Agent
from manager.engine.commands.requests import AgentPolicy
from manager.engine.context import Context
from schemas import codes
from schemas.blocklist import BlocklistEntry
from schemas.keys import version_statement
from schemas.policy import digest_of

_SECTION = {"ip": "ips", "file_hash": "fileHashes"}


def sequence_of(context: Context, agent: Agent) -> int:
    """Return the blocklist sequence of an agent's organization."""
    return context.fleet.blocklists.sequences.get(agent.organization_id, 0)


def merged_version(context: Context, agent: Agent) -> int:
    """Return the version of the agent's merged policy."""
    return max(context.fleet.policies.effective[agent.agent_id].version, sequence_of(context, agent))


def merged_policy(context: Context, agent: Agent) -> AgentPolicy:
    """Return the agent's merged policy."""
    policy = context.fleet.policies.effective[agent.agent_id]
    document = context.serializer.document(policy)
    entries = context.fleet.blocklists.snapshot(agent.organization_id).entries
    if entries:
        document["blocklist"] = _with_entries(document["blocklist"], entries)
    version, digest = merged_version(context, agent), digest_of(document)
    statement = version_statement(agent.agent_id, version, digest)
    proof = codes.encode(context.fleet.keyring.sign_key.sign(statement))
    return AgentPolicy(
        agent.agent_id, version, digest, {**document, "version": version, "digest": digest, "versionProof": proof}
    )


def _with_entries(blocklist: dict[str, Any], entries: list[BlocklistEntry]) -> dict[str, Any]:
    """Return a blocklist with the organization's entries appended; values that it has already are not repeated."""
    merged = {name: list(section) for name, section in blocklist.items()}
    known = {
        name: {entry["value"] if isinstance(entry, dict) else entry for entry in section}
        for name, section in merged.items()
    }
    for entry in entries:
        name = _SECTION[entry.kind]
        if entry.value not in known.setdefault(name, set()):
            members = entry.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"kind"})
            merged.setdefault(name, []).append(members)
    return merged

"""Merged policy: an HTTP agent's own policy with its organization's blocklist, under the higher of the two versions.

Over MQTT these are two topics with two numbers; an HTTP agent polls one document (wire contract, section 4). The
organization's never list is merged into its allowlist.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from manager.domain.agents.agent import Agent
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.policies.resolution import value_of
from manager.domain.response.emergency_entry import EmergencyEntry
from manager.domain.response.manual_blocks import ManualBlock
from manager.engine.commands.requests import AgentPolicy
from manager.engine.context import Context
from manager.engine.policies.signed_policy import MergedBlocklist, ends_of, seconds_left
from schemas import message_codes
from schemas.blocklist import BlocklistEntry
from schemas.keys import version_statement
from schemas.model import iso
from schemas.policy import digest_of

Section = dict[str, list[Any]]

_CACHED = 32
"""The maximum number of cached merged blocklists; each may have 10,000 entries."""

SECTION = {"ip": "ips", "file_hash": "fileHashes"}


def sequence_of(context: Context, agent: Agent) -> int:
    """Return the blocklist sequence of an agent's organization."""
    return context.fleet.blocklists.sequences.get(agent.organization_id, 0)


def merged_version(context: Context, agent: Agent) -> int:
    """Return the version of the agent's merged policy."""
    return max(context.fleet.policies.effective[agent.agent_id].version, sequence_of(context, agent))


def merged_policy(context: Context, agent: Agent) -> AgentPolicy:
    """Return the agent's merged policy."""
    policy, now = context.fleet.policies.effective[agent.agent_id], context.batch.now.wall
    merged = _merged_blocklist(context, agent, policy)
    sections = {"blocklist": merged.section, "allowlist": merged.allowlist}
    document = {**context.serializer.document(policy, now), **sections}
    version = merged_version(context, agent)
    statement = version_statement(agent.agent_id, version, merged.digest)
    proof = message_codes.to_base64url(context.fleet.keyring.sign_key.sign(statement))
    own = {"version": version, "digest": merged.digest, "versionProof": proof}
    left = {"secondsLeft": seconds_left(merged.ends, now)} if merged.ends else {}
    return AgentPolicy(agent.agent_id, version, merged.digest, {**document, **own, **left})


def _merged_blocklist(context: Context, agent: Agent, policy: EffectivePolicy) -> MergedBlocklist:
    """Return the merged blocklist.

    It is computed once for each policy content, organization and sequence: agents with the same policy share them.
    """
    key = (policy.resolved.digest, agent.organization_id, sequence_of(context, agent))
    cache = context.serializer.merged
    if key not in cache:
        blocklist = policy.resolved.sections["blocklist"]
        entries = context.fleet.blocklists.snapshot(agent.organization_id).entries
        if entries:
            blocklist = _with_entries(blocklist, entries)
        allowlist = policy.resolved.sections["allowlist"]
        never = context.fleet.blocklists.never.get(agent.organization_id)
        if never:
            allowlist = {**allowlist, "ips": [*dict.fromkeys((*allowlist["ips"], *never))]}
        digest = digest_of({**policy.resolved.sections, "blocklist": blocklist, "allowlist": allowlist})
        cache[key] = MergedBlocklist(blocklist, allowlist, digest, ends_of(blocklist))
        if len(cache) > _CACHED:
            cache.popitem(last=False)
    return cache[key]


def _with_entries(blocklist: dict[str, Any], entries: list[BlocklistEntry]) -> dict[str, Any]:
    """Return a blocklist with the organization's entries appended, without duplicate values."""
    merged = {name: list(section) for name, section in blocklist.items()}
    known = {
        name: {entry["value"] if isinstance(entry, dict) else entry for entry in section}
        for name, section in merged.items()
    }
    for entry in entries:
        name = SECTION[entry.kind]
        if entry.value not in known.setdefault(name, set()):
            members = entry.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"kind"})
            merged.setdefault(name, []).append(members)
    return merged


def with_scopes(
    blocklist: Section,
    organization: Sequence[EmergencyEntry | ManualBlock],
    agent: Sequence[EmergencyEntry | ManualBlock],
) -> Section:
    """Return a blocklist with the organization's entries added; each entry of a block has its widest scope.

    Args:
        blocklist: section of an agent's policy.
        organization: live entries and manual blocks of the agent's organization, those of the whole fleet too.
        agent: live entries and manual blocks of the agent itself.
    """
    scopes = {(entry.value, _incident_of(entry)): _scope_of(entry) for entry in (*agent, *organization)}
    shown: Section = {}
    for name, section in blocklist.items():
        shown[name] = [_with_scope(entry, scopes) for entry in section]
    known = {name: {value_of(entry) for entry in section} for name, section in shown.items()}
    for entry in organization:
        place = "ips" if isinstance(entry, ManualBlock) else SECTION.get(entry.kind)
        if place is not None and entry.value not in known.setdefault(place, set()):
            known[place].add(entry.value)
            members = {"value": entry.value, "expiresAt": iso(entry.expires_at), "incidentId": _incident_of(entry)}
            members = {name: member for name, member in members.items() if member}
            shown.setdefault(place, []).append({**members, "scope": _scope_of(entry)})
    return shown


def _scope_of(entry: EmergencyEntry | ManualBlock) -> str:
    return entry.holder.scope if isinstance(entry, ManualBlock) else entry.scope


def _incident_of(entry: EmergencyEntry | ManualBlock) -> str:
    return "" if isinstance(entry, ManualBlock) else entry.incident_id


def _with_scope(entry: Any, scopes: Mapping[tuple[str, str], str]) -> Any:
    scope = scopes.get((value_of(entry), entry.get("incidentId", ""))) if isinstance(entry, dict) else None
    return entry if scope is None else {**entry, "scope": scope}

"""Agent record: the API's view of one agent, built from memory; the store's queries return the same members."""

from functools import lru_cache
from typing import Any

import orjson

from manager.domain.agents.agent import Agent
from manager.domain.agents.clones import Clone
from manager.domain.policies.fleet_policies import EffectivePolicy
from schemas.model import iso

_iso = lru_cache(maxsize=65_536)(iso)
"""Formats a time; cached, because most of an agent's times do not change between two heartbeats."""


def clone_record(clone: Clone) -> dict[str, Any]:
    """Return the time a clone was detected and the start time of each instance, by the instances' own clocks."""
    return {"since": iso(clone.since), "instances": [iso(started) for started in clone.instances]}


def condition_record(agent: Agent) -> dict[str, Any]:
    """Return the members about an agent's health, mode and enforcement, as the store's queries return them."""
    condition, sources = agent.condition, agent.vitals.sources
    return {
        "health": condition.health,
        "sources": orjson.loads(sources) if sources else [],
        "enforcement": condition.enforcement or "unknown",
        "modeWanted": condition.mode_wanted,
        "trialSecondsLeft": condition.trial_seconds_left,
        "enforced": None if condition.enforced is None else condition.enforced.record(),
    }


def agent_record(agent: Agent, policy: EffectivePolicy, clone: Clone | None = None) -> dict[str, Any]:
    """Return the API record of an agent; it contains no credential."""
    return record_under(agent, policy.version, policy.resolved.digest, clone)


def record_under(agent: Agent, version: int, digest: str, clone: Clone | None = None) -> dict[str, Any]:
    """Return the API record of an agent whose effective policy has a version and a digest."""
    host, vitals, force = agent.host, agent.vitals, agent.in_force
    platform = {"os": host.os, "arch": host.arch, "ip": host.ip}
    return {
        "agentId": agent.agent_id,
        "id": agent.agent_id,
        "hostname": host.hostname,
        "organizationId": agent.organization_id,
        "site": host.site,
        "tags": host.tags,
        "reportedTags": host.reported_tags,
        "reportedSite": host.reported_site,
        **platform,
        "platform": platform,
        "version": host.version,
        "addresses": host.addresses,
        "tokenId": agent.token_id,
        "registeredAt": _iso(agent.registered_at),
        "status": agent.state,
        "reason": agent.reason,
        "statusSince": _iso(agent.state_since),
        "door": agent.door,
        "session": agent.session,
        "clockOffset": None if agent.clock.seconds is None else round(agent.clock.seconds, 3),
        "lastHeartbeat": None if agent.last_heartbeat is None else _iso(agent.last_heartbeat),
        "cpu": vitals.cpu,
        "memory": vitals.memory,
        "uptime": vitals.uptime,
        "mode": vitals.mode,
        "eventsProcessed": vitals.events_processed,
        "eventsTotal": vitals.events_total,
        "threatsDetected": vitals.threats_detected,
        "threatCount": vitals.threats_detected,
        "actionsExecuted": vitals.actions_executed,
        "outboxSize": vitals.outbox_size,
        "outboxDropped": vitals.outbox_dropped,
        "policyVersion": force.version,
        "policyDigest": force.digest,
        "policyState": force.state,
        "policyError": force.error,
        "policyAppliedAt": None if force.applied_at is None else _iso(force.applied_at),
        "blocklistSequence": force.blocklist_sequence,
        "activePolicyVersion": version,
        "clone": clone and clone_record(clone),
        **condition_record(agent),
        "policyCurrent": (force.version, force.digest) == (version, digest),
    }

"""Drift: finds agents that report another policy, blocklist or mode in force than the effective policy sets."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from manager.domain.agents.agent import Agent, Door, InForce
from manager.domain.policies.fleet_policies import EffectivePolicy


@dataclass(frozen=True, slots=True)
class Drift:
    """One agent's drift: its effective policy and since when, and the policy it reports.

    `mode` is the one that it states, `policy_mode` the one that its policy sets; None where there is none.
    """

    agent_id: str
    version: int
    digest: str
    since: float
    version_in_force: int
    digest_in_force: str | None
    state: str | None
    error: str | None
    blocklist_sequence: int
    blocklist_in_force: int
    mode: str | None = None
    policy_mode: str | None = None


def drifts(
    agents: Iterable[Agent], effective: Mapping[str, EffectivePolicy], sequences: Mapping[str, int]
) -> Iterator[Drift]:
    """Yield the agents whose reported policy, or stated mode, differs from their effective policy.

    So do those that report a lower blocklist sequence than their organization's (`sequences`, by organization); over
    HTTP the blocklist is part of the policy.

    Only the guards' own statements count (the design, section 3, "Policies"): the digest, and that all of the policy is
    applied. The same digest under an older version is the same policy. An HTTP agent reports only versions.
    """
    for agent in agents:
        policy, force = effective.get(agent.agent_id), agent.in_force
        sequence = sequences.get(agent.organization_id, 0) if agent.door is Door.MQTT else 0
        mode, wanted = agent.vitals.mode, None if policy is None else mode_set_by(policy)
        if policy is None or (
            _obeys(force, policy)
            and force.blocklist_sequence >= sequence
            and (wanted is None or mode in {None, wanted})
        ):
            continue
        yield Drift(
            agent.agent_id,
            policy.version,
            policy.resolved.digest,
            policy.updated_at,
            force.version,
            force.digest,
            force.state,
            force.error,
            sequence,
            force.blocklist_sequence,
            mode,
            wanted,
        )


def mode_set_by(policy: EffectivePolicy) -> str | None:
    """Return the mode that an effective policy sets, if any."""
    mode: str | None = policy.resolved.sections["response"].get("mode")
    return mode


def _obeys(force: InForce, policy: EffectivePolicy) -> bool:
    if force.digest is None:
        return force.version >= policy.version
    return force.digest == policy.resolved.digest and force.state == "applied"

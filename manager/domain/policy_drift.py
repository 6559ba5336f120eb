"""Drift: which agents have something else in force than the policy that is meant for them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from manager.domain.agent import Agent, InForce
from manager.domain.policies import EffectivePolicy


@dataclass(frozen=True, slots=True)
class Drift:
    """One agent's difference: what it should have, what it says it has, and since when it should."""

    agent_id: str
    version: int
    digest: str
    since: float
    version_in_force: int
    digest_in_force: str | None
    state: str | None
    error: str | None


def drifts(agents: Iterable[Agent], effective: Mapping[str, EffectivePolicy]) -> Iterator[Drift]:
    """Yield the agents whose own word on what is in force differs from their effective policy.

    What counts is the guards' word alone (the design, section 3, "Policies"): the digest, and that all of it is
    applied. The same digest under an older version is the same policy. A legacy guard knows only versions, and is
    believed about these.
    """
    for agent in agents:
        policy, force = effective.get(agent.agent_id), agent.in_force
        if policy is None or _obeys(force, policy):
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
        )


def _obeys(force: InForce, policy: EffectivePolicy) -> bool:
    if force.digest is None:
        return force.version >= policy.version
    return force.digest == policy.resolved.digest and force.state == "applied"

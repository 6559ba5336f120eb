"""Explanation of an agent's policy: its own policy's values, its organization's blocklist and never list."""

from collections.abc import Iterator
from dataclasses import replace

from manager.domain.agents.agent import Agent, Door
from manager.domain.policies.explain import Explained, Source
from manager.engine.commands.fleet import find_agent
from manager.engine.commands.requests import ExplainPolicy, Explanation
from manager.engine.context import Context
from manager.engine.policies.merged_policy import SECTION, merged_policy


def explain_policy(context: Context, request: ExplainPolicy) -> Explanation:
    """Return the source of each value that an agent should have in force.

    Raises:
        NotFound: there is no such agent.
    """
    agent = find_agent(context, request.agent_id)
    policies = context.fleet.policies
    policy = policies.effective[agent.agent_id]
    own = {value.path: value for value in policies.explain(agent.agent_id)}
    for listed in _blocklist(context, agent):
        known = own.get(listed.path)
        own[listed.path] = listed if known is None else known._replace(sources=(*known.sources, listed.source))
    found = Explanation(
        agent.hostname,
        agent.organization_id,
        policy.version,
        policy.resolved.digest,
        policy.groups,
        [own[path] for path in sorted(own)],
    )
    if agent.door is not Door.HTTP:
        return found
    merged = merged_policy(context, agent)
    return replace(found, version=merged.version, digest=merged.digest)


def _blocklist(context: Context, agent: Agent) -> Iterator[Explained]:
    """Yield the entries of the blocklist and, over HTTP, of the never list of an agent's organization."""
    blocklist = context.fleet.blocklists.snapshot(agent.organization_id)
    source = Source("blocklist", agent.organization_id)
    for entry in blocklist.entries:
        value = entry.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"kind"})
        yield Explained(f"blocklist.{SECTION[entry.kind]}[{entry.value}]", value, source, (source,))
    if agent.door is Door.HTTP:
        never = Source("never", agent.organization_id)
        for network in blocklist.never or ():
            yield Explained(f"allowlist.ips[{network}]", network, never, (never,))

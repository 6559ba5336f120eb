"""Indexes of the agents in memory: the registry, and the addresses that are never blocked."""

from collections.abc import Iterable
from typing import NamedTuple

from manager.domain.agents.agent import Agent
from manager.domain.agents.registry import Registry
from manager.domain.response import FleetAddresses


class AgentIndex(NamedTuple):
    """Registry and addresses of some agents."""

    registry: Registry
    addresses: FleetAddresses


def index_of(agents: Iterable[Agent]) -> AgentIndex:
    """Return the indexes of agents, in the order of these."""
    index = AgentIndex(Registry(), FleetAddresses())
    for agent in agents:
        index.registry.load(agent)
        state_addresses(index.addresses, agent)
    return index


def indexed_values(agent: Agent) -> tuple[object, ...]:
    """Return the values of an agent by which it is found in an index: with the same ones it stands there alike."""
    keys = agent.credential.keys
    return agent.number, agent.agent_id, agent.organization_id, agent.registered_in, agent.host, keys


def state_addresses(addresses: FleetAddresses, agent: Agent) -> None:
    """Set an agent's own addresses and gateways; these are never blocked."""
    host = agent.host
    own = [*host.addresses, *([host.ip] if host.ip else [])]
    addresses.set(agent.agent_id, agent.organization_id, host.correlation_site, own, host.gateways)

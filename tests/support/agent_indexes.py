"""The contents of the indexes of agents, to compare two of them."""

from typing import Any

from manager.engine.agent_index import AgentIndex


def contents(index: AgentIndex) -> dict[str, Any]:
    """Return everything in the indexes, with the order of the mappings."""
    registry = dict(vars(index.registry))
    found = {**registry, "_by_number": registry["_by_number"]._blocks, **vars(index.addresses)}
    found["_by_token"] = registry["_by_token"]._buckets
    return {name: list(value.items()) if isinstance(value, dict) else value for name, value in found.items()}

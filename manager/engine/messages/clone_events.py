"""Clone events: passes births and heartbeats to the clone rules and records detected clones."""

from manager.domain.agents.agent import Agent
from manager.domain.agents.clones import Clone
from manager.domain.instant import Instant
from manager.engine.batch import HistoryLine
from manager.engine.context import Context
from schemas.model import iso


def observe(context: Context, agent: Agent, session: int, started: float, heard: float) -> None:
    """Check an accepted birth or heartbeat for a clone of its agent, before the agent's clock observes it.

    `started` is the start of the sending process, in seconds since 1970 by its own clock; `heard` is the monotonic time
    of the agent's message before.
    """
    clone = context.fleet.clones.observe(agent, session, max(0.0, started), heard, context.batch.now)
    if clone is not None:
        _record(context, agent, "agent_cloned", clone)


def tick(context: Context, _now: Instant) -> None:
    """Record the end of clones of which only one instance is left."""
    for clone in context.fleet.clones.expire(context.batch.now):
        agent = context.fleet.registry.find(clone.agent_id)
        if agent is not None:
            _record(context, agent, "agent_clone_gone", clone)


def _record(context: Context, agent: Agent, event: str, clone: Clone) -> None:
    instances = [iso(started) for started in clone.instances]
    detail = f"instances started at {' and '.join(instances)}"
    context.batch.changes.history.append(HistoryLine(agent.agent_id, context.batch.now.wall, event, detail))
    context.batch.event(event, agent, {"since": iso(clone.since), "instances": list(instances)})

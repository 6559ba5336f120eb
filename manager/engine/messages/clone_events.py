"""Signs of life looked at for clones, and what is told of them: one fleet event and one line of history each."""

from manager.domain.agents.agent import Agent
from manager.domain.agents.clones import Clone
from manager.engine.batch import HistoryLine
from manager.engine.context import Context
from schemas.model import iso


def observe(context: Context, agent: Agent, session: int, started: float) -> None:
    """Look at a birth or heartbeat that counted for whether its agent lives more than once.

    `started` is when the process that spoke was started, in seconds since 1970 by its own clock.
    """
    clone = context.fleet.clones.observe(agent.agent_id, session, max(0.0, started), context.batch.now)
    if clone is not None:
        _tell(context, agent, "agent_cloned", clone)


def follow_time(context: Context) -> None:
    """Tell of the agents that were clones and are alone again."""
    for clone in context.fleet.clones.expire(context.batch.now):
        agent = context.fleet.registry.find(clone.agent_id)
        if agent is not None:
            _tell(context, agent, "agent_clone_gone", clone)


def _tell(context: Context, agent: Agent, event: str, clone: Clone) -> None:
    instances = [iso(started) for started in clone.instances]
    detail = f"instances started at {' and '.join(instances)}"
    context.batch.changes.history.append(HistoryLine(agent.agent_id, context.batch.now.wall, event, detail))
    context.batch.event(event, agent, {"since": iso(clone.since), "instances": list(instances)})

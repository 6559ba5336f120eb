"""Signs of life looked at for clones, and what is told of them: one fleet event and one line of history each."""

from manager.domain.agent import Agent
from manager.domain.clones import Clone
from manager.engine.batch import HistoryLine
from manager.engine.desk import Desk
from schemas.model import iso


def observe(desk: Desk, agent: Agent, session: int, started: float) -> None:
    """Look at a birth or heartbeat that counted for whether its agent lives more than once.

    `started` is when the process that spoke was started, in seconds since 1970 by its own clock.
    """
    clone = desk.fleet.clones.observe(agent.agent_id, session, max(0.0, started), desk.batch.now)
    if clone is not None:
        _tell(desk, agent, "agent_cloned", clone)


def follow_time(desk: Desk) -> None:
    """Tell of the agents that were clones and are alone again."""
    for clone in desk.fleet.clones.settle(desk.batch.now):
        agent = desk.fleet.registry.find(clone.agent_id)
        if agent is not None:
            _tell(desk, agent, "agent_clone_gone", clone)


def _tell(desk: Desk, agent: Agent, event: str, clone: Clone) -> None:
    instances = [iso(started) for started in clone.instances]
    detail = f"instances started at {' and '.join(instances)}"
    desk.batch.changes.history.append(HistoryLine(agent.agent_id, desk.batch.now.wall, event, detail))
    desk.batch.event(event, agent, {"since": iso(clone.since), "instances": list(instances)})

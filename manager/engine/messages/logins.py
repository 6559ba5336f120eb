"""Records the successful logins that a guard's heartbeats report."""

from manager.domain.agents.agent import Agent
from manager.domain.protection.forecast import HostLogin
from manager.domain.protection.measures import scoped_address
from manager.engine.context import Context
from schemas.fast_heartbeats import AnyLogins


def record(context: Context, agent: Agent, logins: AnyLogins | None) -> None:
    """Store the logins of a heartbeat; a heartbeat without the member is of an agent that reports none.

    Args:
        context: the batch.
        agent: the agent, whose clock offset is updated already.
        logins: logins on the agent's clock; each is repeated in several heartbeats, and stored once.
    """
    if logins is None:
        return
    now = context.batch.now.wall
    if not agent.reports_logins:
        agent.reports_logins = True
        context.batch.changes.login_reporters[agent.number] = now
    for login in logins:
        subject = scoped_address(agent.organization_id, agent.host.correlation_site, login.source_ip)
        stated = login.at.timestamp()
        event_time, known = agent.clock.event_time(stated, now)
        if subject is not None and "/" not in subject.value:
            at = event_time if known else min(stated, now)
            context.batch.changes.logins.append(HostLogin(subject, agent.number, login.user, at, login.guessed))

"""Records what heartbeats and acknowledgements say about an agent's health, mode and enforced measures."""

from manager.domain.agents.agent import Agent, Door
from manager.domain.agents.condition import changes_between, kept_sources, unenforced_values
from manager.domain.notifications.alert_limit import Admission, AlertClass
from manager.engine.context import Context
from manager.engine.response import emergency_response
from schemas.fast_heartbeats import AnyEnforced, AnyHeartbeat
from schemas.fast_http_heartbeats import AnyHttpHeartbeat


def record(
    context: Context, agent: Agent, message: AnyHeartbeat | AnyHttpHeartbeat, mode: tuple[str | None, str | None]
) -> None:
    """Record the condition that a heartbeat states; announce a change of health, and a protection that fell back.

    Args:
        context: the batch.
        agent: the agent.
        message: its heartbeat.
        mode: its effective mode before and now.
    """
    before, sources = agent.condition, message.sources or ()
    agent.vitals.sources = kept_sources(sources)
    agent.condition = before.stating(
        message.health, message.enforcement, message.mode_wanted, message.trial_seconds_left
    )
    for change in changes_between(before, agent.condition, mode, sources):
        is_told = _is_told(context, agent, change.event)
        if change.event == "agent_degraded":
            agent.condition = agent.condition.changed(degradation_untold=not is_told)
        if not is_told:
            continue
        context.fleet.counters[change.event] += 1
        context.batch.event(change.event, agent, change.data)
    record_enforced(context, agent, message.enforced)


def record_enforced(context: Context, agent: Agent, enforced: AnyEnforced | None) -> None:
    """Record the measures that an agent's host enforces, and the responses that are so enforced."""
    agent.condition = condition = agent.condition.enforcing(enforced)
    known = condition.enforced
    if enforced is not None and condition.ineffective_untold and _is_told(context, agent, "block_ineffective"):
        agent.condition = condition.changed(ineffective_untold=0)
        reasons = [{"value": each.value, "reason": each.reason} for each in enforced.reasons]
        data = {"count": enforced.ineffective, "reasons": reasons, **(reasons[0] if reasons else {})}
        context.batch.event("block_ineffective", agent, data)
    if known is None or not condition.enforces():
        return
    policy = known.policy_version or 0
    sequence = policy if agent.door is Door.HTTP else known.blocklist_sequence or 0
    if not context.fleet.immunity.may_reach(agent.agent_id, policy, sequence):
        return
    unenforced = unenforced_values(known)
    if unenforced is None:  # it lists fewer reasons than there are: nothing is certain
        return
    emergency_response.record_enforced(context, agent.agent_id, "policy", policy, unenforced)
    emergency_response.record_enforced(context, agent.agent_id, "blocklist", sequence, unenforced)


def _is_told(context: Context, agent: Agent, event: str) -> bool:
    """Return whether an event is within the agent's limit; a recovery follows a degradation that was, and is told."""
    if event == "agent_recovered":
        return True
    alert = AlertClass(event, by_heartbeat=True)
    return context.fleet.alert_limit.admit(agent.number, alert, context.batch.now.monotonic) is Admission.TOLD

"""Vitals and clock of an HTTP agent's heartbeat; the leader and ingest workers record them alike in their memory."""

from manager.domain.agents.agent import Agent
from schemas.fast_http_heartbeats import AnyHttpHeartbeat
from schemas.model import seconds_since_1970

_VITALS = (
    "cpu", "memory", "mode", "events_processed", "events_total", "threats_detected", "actions_executed",
    "outbox_size", "outbox_dropped",
)  # fmt: skip
"""The members that a heartbeat and an agent's vitals share."""


def observe_clock(agent: Agent, heartbeat: AnyHttpHeartbeat, received: float) -> None:
    """Update the clock offset from a heartbeat's `sentAt`, or from the `timestamp` of other clients.

    Without an uptime of the agent's monotonic clock the manager's own clock is used instead: a `timestamp` that moves
    by more than 2 s against the receipts is a step of the agent's clock.
    """
    if heartbeat.sent_at is not None and heartbeat.uptime_seconds is not None:
        agent.clock.observe(
            received, seconds_since_1970(heartbeat.sent_at), heartbeat.uptime_seconds, agent.session, fresh=True
        )
    elif heartbeat.timestamp is not None:
        agent.clock.observe(received, heartbeat.timestamp.timestamp(), received, agent.session, fresh=True)


def record_vitals(agent: Agent, heartbeat: AnyHttpHeartbeat) -> None:
    """Record the vitals of a heartbeat; members that it lacks keep their last value."""
    vitals = agent.vitals
    if heartbeat.uptime_seconds is not None:
        vitals.uptime = heartbeat.uptime_seconds
    for name in _VITALS:
        value = getattr(heartbeat, name)
        if value is not None:
            setattr(vitals, name, value)
    if heartbeat.events_processed is not None:
        vitals.count_events(heartbeat.events_processed, heartbeat.events_total)
    vitals.counts_stated |= heartbeat.threats_detected is not None or heartbeat.actions_executed is not None
    if heartbeat.blocklist_sequence is not None:
        agent.in_force.blocklist_sequence = heartbeat.blocklist_sequence
    if heartbeat.version is not None and heartbeat.version != agent.host.version:
        agent.host = agent.host.changed(version=heartbeat.version)

"""Vitals over time: the heartbeats of each agent, added up in periods of 900 s and kept for 24 hours."""

from typing import NamedTuple

from manager.domain.agents.agent import Agent

PERIOD = 900
"""The length of a period in seconds."""

KEPT_FOR = 86_400.0
"""Seconds for which periods are kept."""


class VitalsSample(NamedTuple):
    """One heartbeat's share in its period; CPU and memory in tenths of a percent."""

    period: int
    agent_number: int
    cpu: int
    cpu_highest: int
    memory: int
    events_total: int


def period_of(at: float) -> int:
    """Return the number of the period of a time, in seconds since 1970."""
    return int(at // PERIOD)


def sample_of(agent: Agent) -> VitalsSample | None:
    """Return the sample of an agent's newest heartbeat; None while the agent states no CPU or no memory."""
    vitals, at = agent.vitals, agent.last_heartbeat
    if at is None or vitals.cpu is None or vitals.memory is None:
        return None
    cpu, memory = round(vitals.cpu * 10), round(vitals.memory * 10)
    return VitalsSample(period_of(at), agent.number, cpu, cpu, memory, vitals.events_total)

"""Held-back reports: passes stored reports to the rule and records its results."""

from collections.abc import Sequence
from typing import Any

from manager.domain.agents.agent import Door, State
from manager.domain.instant import Instant
from manager.engine.batch import HistoryLine, ThreatRow
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from schemas.model import iso

BEGUN, OVER = "reports_held_back", "reports_arrive_again"
"""The names of the fleet events and history lines: reports are held back, reports arrive again."""


def record_stored(fleet: Fleet, rows: Sequence[ThreatRow], now: Instant) -> None:
    """Pass the agents with a newly stored report to the rule."""
    for number in {row.agent_number for row in rows}:
        agent = fleet.registry.find_by_number(number)
        if agent is not None:
            fleet.held_back.record_stored(agent.agent_id, now)


def check(context: Context) -> None:
    """Record agents whose reports are now held back, and those whose reports arrive again."""
    fleet = context.fleet
    begun, over = fleet.held_back.check(
        lambda agent_id: (agent := fleet.registry.find(agent_id)) is not None and agent.state is State.ONLINE,
        fleet.liveness.hearing_since(Door.MQTT),
    )
    for each in begun:
        data = {"waiting": each.waiting, "since": iso(each.since)}
        _record(context, each.agent_id, BEGUN, f"{each.waiting} wait", data)
    for agent_id in over:
        _record(context, agent_id, OVER, "", {})


def records(fleet: Fleet) -> list[dict[str, Any]]:
    """Return the agents with held-back reports as API records; safe from any thread."""
    found = [(each, fleet.registry.find(each.agent_id)) for each in fleet.held_back.current]
    return [
        {
            "agentId": agent.agent_id,
            "hostname": agent.hostname,
            "organizationId": agent.organization_id,
            "waiting": each.waiting,
            "since": iso(each.since),
        }
        for each, agent in found
        if agent is not None
    ]


def _record(context: Context, agent_id: str, event: str, detail: str, data: dict[str, Any]) -> None:
    agent = context.fleet.registry.find(agent_id)
    if agent is not None:
        context.batch.changes.history.append(HistoryLine(agent_id, context.batch.now.wall, event, detail))
        context.batch.event(event, agent, data)

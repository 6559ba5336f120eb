"""Stories of events for the judgement: what happens in a fleet, with pauses, late takings and quiet hours."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement import JudgementSettings, QuietHours
from tests.support.judged import START, Events, JudgedChannel

AGENTS = {"srv-1": "here", "srv-2": "here", "srv-3": None, "srv-4": "there"}
NIGHT = QuietHours(start=8 * 60, end=12 * 60)

_AGENT_EVENTS = (
    "agent_stale", "agent_stale", "agent_stale", "agent_online", "agent_online", "agent_online", "agent_offline",
    "agent_removed", "agent_degraded", "agent_recovered", "reports_held_back", "reports_arrive_again", "agent_cloned",
    "suspicious_login", "suspicious_login", "critical_threat", "alerts_limited", "block_cut_connections",
    "block_ineffective",
    "mode_reverted",
)  # fmt: skip
_OTHER_EVENTS = (
    "approval_waiting", "approval_waiting", "approval_over", "store_unavailable", "store_available",
    "broker_unavailable", "broker_available", "threats_reported", "incident_opened", "incident_response",
    "events_dropped", "sign_in_refused", "notifications_muted", "notifications_unmuted", "notification_acknowledged",
    "incident_work", "signed_in",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One event: the pause before it is taken, its age then, and whether it comes in quiet hours."""

    pause: float
    age: float
    name: str
    agent: str
    number: int
    quiet: bool


steps = st.lists(
    st.builds(
        Step,
        pause=st.sampled_from([0.0, 1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 601.0, 900.0, 1800.0, 3600.0, 4 * 3600.0]),
        age=st.sampled_from([0.0, 0.0, 0.0, 0.0, 5.0, 1801.0, 7200.0]),
        name=st.sampled_from([*_AGENT_EVENTS, *_OTHER_EVENTS]),
        agent=st.sampled_from(sorted(AGENTS)),
        number=st.sampled_from([1, 1, 2, 3]),
        quiet=st.booleans(),
    ),
    min_size=1,
    max_size=40,
)

settings_of = st.builds(
    JudgementSettings,
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    digest_at=st.sampled_from([0, 480, 1439]),
    escalate_after=st.sampled_from([None, 60.0, 1800.0]),
    most_messages=st.sampled_from([1, 2, 6]),
    limit_window=st.sampled_from([600.0, 3600.0]),
)


def event_of(step: Step, events: Events, at: float) -> Event:
    """Return the event of a step that is taken at a time."""
    data: dict[str, Any] = {
        "incidentId": f"inc-{step.number}", "value": f"203.0.113.{step.number}", "agents": 2, "count": step.number,
        "taken": step.number, "connections": 3, "sourceIp": f"203.0.113.{step.number}", "user": "dave",
        "type": "login_after_failures", "kind": "file_hash" if step.number == 3 else "source_ip",
        "state": "applied", "expiresAt": at + 3600.0 * step.number, "author": "anna", "action": "acknowledge",
        "group": f"got_in-{step.number}", "until": at + 1800.0 * step.number,
    }  # fmt: skip
    data["agentsBlocked"] = step.number == 2
    of_agent = step.name in _AGENT_EVENTS
    if step.name.startswith("notifications_"):
        data = {key: data[key] for key in ("until", "author")}
        data |= [{}, {"site": "here"}, {"agentId": "srv-1"}, {"topic": "got_in"}][step.number]
    place: dict[str, Any] = {"site": AGENTS[step.agent]} if of_agent else {}
    return events.make(step.name, at - step.age, step.agent if of_agent else None, **place, **data)


def play(story: list[Step], settings: JudgementSettings, *, restarts: bool) -> JudgedChannel:
    """Return a channel after a story and two quiet days."""
    events, channel, now = Events(), JudgedChannel(settings, restarts=restarts), START
    for step in story:
        now += step.pause
        channel.take(event_of(step, events, now), at=now, quiet=NIGHT if step.quiet else None)
    channel.pass_until(now + 2 * 86_400)
    return channel

"""Batch: the changes of one transaction, and the acknowledgements, answers and publications that follow its commit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from manager.domain.access import AccessToken
from manager.domain.agents.agent import Agent
from manager.domain.agents.liveness import Transition
from manager.domain.agents.tokens import Token
from manager.domain.agents.vitals_history import VitalsSample
from manager.domain.console_sessions import ConsoleSession
from manager.domain.correlation import Incident, Indicator
from manager.domain.instant import Instant
from manager.domain.notifications.event import KINDS
from manager.domain.policies.fleet_policies import EffectivePolicy, Revision
from manager.domain.protection.forecast import HostLogin, Lift
from manager.domain.protection.measures import ReportedMeasure
from manager.domain.response.emergency_entry import EmergencyEntry
from manager.domain.response.evidence_index import Observed
from manager.domain.response.manual_blocks import ManualBlock
from manager.domain.response.response_changes import Response
from manager.engine.events import EventRow
from manager.engine.notifications import MuteNotifications, RecordNotifications
from schemas.fleet import FleetEvent
from schemas.model import utc
from schemas.threats import Severity


class ThreatRow(NamedTuple):
    """A report as a row of the store; times are seconds since 1970, `document` is the report's JSON.

    `ignored` are the bits of the indicators for which the report is not correlated (`Report.ignored`).
    `vouched` has the kinds of indicator that the report vouches for, as bits.
    """

    agent_number: int
    threat_id: str
    digest: bytes
    event_time: float
    received_at: float
    time_known: bool
    type: str
    severity: str
    confidence: float
    technique: str | None
    source_ip: str | None
    file_hash: str | None
    document: str
    ignored: int = 0
    vouched: int = 0


class DeadLetter(NamedTuple):
    """A message that changed nothing, with the reason and the payload's first bytes."""

    received_at: float
    topic: str
    reason: str
    size: int
    payload: bytes


class AuditEntry(NamedTuple):
    """One line of the audit log; `before` and `after` are JSON objects, None where the target did not exist.

    `at` is in seconds since 1970; the others are those of `manager.engine.origin.Origin`.
    """

    at: float
    actor: str
    action: str
    target: str
    address: str | None
    request_id: str | None
    role: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class IncidentWork(NamedTuple):
    """One thing that a person did about an incident: acknowledged it, closed it, or added a note."""

    incident_id: str
    at: float
    author: str
    action: str
    note: str | None


class Recognition(NamedTuple):
    """A person's word that a threat is their own doing, at a time in seconds since 1970."""

    at: float
    author: str
    note: str | None


class HistoryLine(NamedTuple):
    """One line of an agent's history."""

    agent_id: str
    at: float
    event: str
    detail: str


@dataclass(slots=True)
class Changes:
    """Everything that one transaction writes."""

    agents: dict[str, Agent] = field(default_factory=dict)
    """Agents whose whole records are written, by id."""
    stated: dict[str, Agent] = field(default_factory=dict)
    """Agents of which the values are written that a heartbeat states and seldom changes, by id."""
    vitals: dict[str, Agent] = field(default_factory=dict)
    """Agents of which only the values that every heartbeat changes are written, by id."""
    vitals_history: list[VitalsSample] = field(default_factory=list)
    removed: list[Agent] = field(default_factory=list)
    threats: list[ThreatRow] = field(default_factory=list)
    elsewhere: dict[int, ThreatRow] = field(default_factory=dict)
    """Threats that another process stored and this batch decides on, by sequence."""
    corrections: dict[int, ThreatRow] = field(default_factory=dict)
    """Those of them whose event time or ignored indicators differ from the stored row, by sequence."""
    decided: list[tuple[int, int]] = field(default_factory=list)
    """The ranges of sequences that are decided with this batch, both ends included; gaps are among them."""
    measures: dict[tuple[int, str], tuple[ReportedMeasure, float]] = field(default_factory=dict)
    """The measures of new reports with their times of receipt, by agent number and report id."""
    logins: list[HostLogin] = field(default_factory=list)
    login_reporters: dict[int, float] = field(default_factory=dict)
    """The agents that report logins, by number, and since when."""
    lifts: list[Lift] = field(default_factory=list)
    policies: dict[str, EffectivePolicy] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    fleet_revision: int | None = None
    tokens: dict[str, Token] = field(default_factory=dict)
    access: dict[str, AccessToken] = field(default_factory=dict)
    sessions: dict[str, ConsoleSession | None] = field(default_factory=dict)
    """The console's sessions by id; None for one that has ended."""
    incident_shift: float | None = None
    """Seconds to add to the times of all stored incidents, before `incidents` are written."""
    incidents: dict[str, Incident] = field(default_factory=dict)
    members: list[tuple[str, str, bool, bool]] = field(default_factory=list)
    responses: dict[str, Response] = field(default_factory=dict)
    entries_added: list[EmergencyEntry] = field(default_factory=list)
    entries_removed: list[EmergencyEntry] = field(default_factory=list)
    entries_moved: list[EmergencyEntry] = field(default_factory=list)
    """Stored entries that a merge of incidents assigned to another incident."""
    work: list[IncidentWork] = field(default_factory=list)
    recognitions: dict[tuple[str, str], Recognition | None] = field(default_factory=dict)
    """Recognized threats by threat id and agent id; None where a recognition was taken back."""
    manual_added: list[ManualBlock] = field(default_factory=list)
    manual_moved: list[ManualBlock] = field(default_factory=list)
    """Manual blocks whose holder is in another organization now."""
    manual_removed: list[ManualBlock] = field(default_factory=list)
    acceptance: dict[str, dict[str, float]] = field(default_factory=dict)
    immunity: dict[str, dict[str, float]] = field(default_factory=dict)
    evidence: dict[Indicator, Observed | None] = field(default_factory=dict)
    """Evidence of the never-block rules, in the order of renewal; None where it was dropped."""
    meta: dict[str, str] = field(default_factory=dict)
    sealed: dict[str, bytes] = field(default_factory=dict)
    """Secrets of the manager, by name; the store seals them."""
    history: list[HistoryLine] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    notifications: list[RecordNotifications] = field(default_factory=list)
    notifications_paused: dict[str, float | None] = field(default_factory=dict)
    mutes: list[tuple[MuteNotifications, float]] = field(default_factory=list)
    """The mutes that began or ended, and when."""
    dead_letters: list[DeadLetter] = field(default_factory=list)

    @property
    def new_threats(self) -> list[ThreatRow]:
        """The threats that this batch decides on, whichever process stored them."""
        return [*self.threats, *self.elsewhere.values()] if self.elsewhere else self.threats

    def __bool__(self) -> bool:
        """Return whether there is any change to write."""
        return bool(
            self.threats
            or self.decided
            or self.agents
            or self.stated
            or self.vitals
            or self.vitals_history
            or self.history
            or self.events
            or self.notifications
            or self.notifications_paused
            or self.mutes
            or self.audit
            or self.dead_letters
            or self.logins
            or self.login_reporters
            or self.lifts
            or self.policies
            or self.revisions
            or self.tokens
            or self.access
            or self.sessions
            or self.incident_shift is not None
            or self.incidents
            or self.responses
            or self.entries_added
            or self.entries_removed
            or self.entries_moved
            or self.work
            or self.recognitions
            or self.manual_added
            or self.manual_moved
            or self.manual_removed
            or self.acceptance
            or self.immunity
            or self.evidence
            or self.meta
            or self.sealed
            or self.removed
            or self.fleet_revision is not None
        )


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to be published after the commit.

    `confirm` is called when the broker has confirmed it. It is not published if the change of `subject` is dropped.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retained: bool = False
    confirm: Callable[[], None] | None = None
    subject: str | None = None


class CommandAnswer(NamedTuple):
    """The answer to a command: a value, or the error that its caller raises."""

    request: Any
    reply: Callable[[Any, Exception | None], None]
    value: Any
    error: Exception | None


class Undo(NamedTuple):
    """Takes back in memory what a command did, for the case that the store rejects it.

    Attributes:
        member: The member of `Changes` that has the change.
        subject: The id or scope that the change is about: its key, or the id of its first row.
        revert: Called with a context; what its batch gets corrects what the store has of the command's effects.
        events: The command's events, which are neither stored nor published then.
        records: Its history lines, lifts and audit entries that are not stored then.
        is_whole: Whether the command is nothing without this change: all its records go with it.
        request: The command; its caller is told.
    """

    member: str
    subject: str
    revert: Callable[[Any], None]
    events: tuple[EventRow, ...] = ()
    records: tuple[Any, ...] = ()
    is_whole: bool = False
    request: Any = None


@dataclass(slots=True)
class Batch:
    """The changes and effects of one transaction, collected while the batch is decided."""

    now: Instant
    changes: Changes = field(default_factory=Changes)
    publications: list[Publication] = field(default_factory=list)
    passing_events: list[EventRow] = field(default_factory=list)
    """Events that are published and not stored."""
    handles: list[Any] = field(default_factory=list)
    answers: list[CommandAnswer] = field(default_factory=list)
    admitted: list[tuple[Agent, bool]] = field(default_factory=list)
    """Agents with a new credential, and whether the credential replaced another one."""
    cut_off: list[str] = field(default_factory=list)
    undo: list[Undo] = field(default_factory=list)
    """In the order of the commands; carried out in the reverse order."""

    def lengths(self) -> list[int]:
        """Return the number of rows in each list that a command adds to, for `complete_undo`."""
        changes = self.changes
        lists: tuple[list[Any], ...] = (self.undo, changes.events, self.passing_events, changes.history, changes.audit)
        return [len(rows) for rows in (*lists, changes.lifts)]

    def complete_undo(self, request: Any, lengths: list[int]) -> None:
        """Add to each undo since a command began what else must not be stored if the store rejects its change.

        Args:
            request: the command.
            lengths: what `lengths` returned before it.
        """
        undone, events, passing, history, audit, lifts = lengths
        if len(self.undo) == undone:
            return
        changes = self.changes
        told = (*changes.events[events:], *self.passing_events[passing:])
        records = (*changes.history[history:], *changes.audit[audit:], *changes.lifts[lifts:])
        self.undo[undone:] = [
            each._replace(events=told, records=records if each.is_whole else each.records, request=request)
            for each in self.undo[undone:]
        ]

    def save(self, agent: Agent) -> None:
        """Write an agent's record in this transaction."""
        self.changes.agents[agent.agent_id] = agent

    def save_stated(self, agent: Agent) -> None:
        """Write the values of an agent that a heartbeat states and seldom changes in this transaction."""
        self.changes.stated[agent.agent_id] = agent

    def save_vitals(self, agent: Agent) -> None:
        """Write the values of an agent that every heartbeat changes in this transaction."""
        self.changes.vitals[agent.agent_id] = agent

    def save_policy(self, policy: EffectivePolicy) -> None:
        """Write an agent's effective policy in this transaction."""
        self.changes.policies[policy.agent_id] = policy

    def clear_retained(self, topic: str) -> None:
        """Clear the retained message of a topic after the commit."""
        self.publications.append(Publication(topic, b"", retained=True))

    def event(
        self,
        name: str,
        agent: Agent | None = None,
        data: Mapping[str, Any] | None = None,
        organization_id: str | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Store a fleet event with this transaction if its name is worth telling, and publish it after the commit.

        Args:
            name: one of `notifications.event.KINDS`; an event of another name is published and not stored.
            agent: the agent that it is about, whose organization is the event's.
            data: its members.
            organization_id: its organization, where no agent is given.
            severity: its severity; None for that of its kind.
        """
        event = FleetEvent(
            event=name,
            at=utc(self.now.wall),
            agent_id=agent.agent_id if agent else None,
            hostname=agent.hostname if agent else None,
            organization_id=agent.organization_id if agent else organization_id,
            data=dict(data or {}),
        )
        self.add_event(event, agent.host.site if agent else None, severity)

    def add_event(self, event: FleetEvent, site: str | None = None, severity: Severity | None = None) -> None:
        """Store and publish a fleet event, as `event` does."""
        kind = KINDS.get(event.event)
        if kind is None:
            self.passing_events.append(EventRow(event, self.now.wall))
        else:
            self.changes.events.append(EventRow(event, self.now.wall, severity or kind.severity, site))

    def transition(self, transition: Transition | None) -> None:
        """Record a change of state: the agent's record, one line of history, one fleet event unless it is silent."""
        if transition is None:
            return
        agent = transition.agent
        self.save(agent)
        self.changes.history.append(
            HistoryLine(agent.agent_id, transition.at, f"agent_{transition.after}", transition.reason)
        )
        if transition.silent:
            return
        self.event(f"agent_{transition.after}", agent, {"before": transition.before, "reason": transition.reason})

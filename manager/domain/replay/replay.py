"""Replay: runs the rules over stored reports, with other thresholds and allowlists.

Correlator and responder are the ones of the running fleet. They get the reports in the order of receipt and a tick each
second in between, as in the engine; no decision is carried out.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec import structs

from manager.domain.correlation import (
    Allowed,
    Correlator,
    CorrelatorSettings,
    Incident,
    IncidentChange,
    Indicator,
    PastReport,
    Report,
)
from manager.domain.correlation.allowlist import allow_nothing, ignored_bits
from manager.domain.replay.outcomes import IncidentOutcome
from manager.domain.response import (
    EmergencyEntry,
    EvidenceIndex,
    FleetAddresses,
    NeverBlock,
    OrganizationResponse,
    RepeatOffenderRule,
    Responder,
    ResponderSettings,
    Response,
    ResponseChanges,
)

_TICK = 1.0
_ORDINARY = RepeatOffenderRule(3, 86_400.0)


class StoredReport(NamedTuple):
    """A report from the store, with its evidence of logins and paths."""

    report: Report
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """The settings to try.

    Args:
        correlator: thresholds of incidents.
        responder: settings of the response.
        allowed: indicators that make no incident.
        own_addresses: the manager's and the broker's addresses, never blocked.
        admin_networks: addresses and CIDRs that people administer the fleet from, never blocked.
        organization_response: which agents the organization-wide step counts.

    Raises:
        ValueError: by the replay, if one of the last two is neither an address nor a CIDR.
    """

    correlator: CorrelatorSettings = field(default_factory=CorrelatorSettings)
    responder: ResponderSettings = field(default_factory=ResponderSettings)
    allowed: Allowed = allow_nothing
    own_addresses: tuple[str, ...] = ()
    admin_networks: tuple[str, ...] = ()
    organization_response: OrganizationResponse = OrganizationResponse.VOUCHED


@dataclass(frozen=True, slots=True)
class ReplayAgent:
    """The facts about an agent that the rules need."""

    agent_id: str
    organization_id: str
    site: str | None
    token_id: str | None
    addresses: tuple[str, ...] = ()
    registered_at: float = 0.0
    network: str | None = None


class ReplayFleet:
    """The current fleet; the replay assumes the same fleet for the whole time.

    Args:
        agents: all agents, removed ones too.
        used_tokens: number of enrollment tokens in use.
        escalation: returns the repeat-offender rule of an organization.
    """

    def __init__(
        self,
        agents: Iterable[ReplayAgent],
        used_tokens: int,
        escalation: Callable[[str], RepeatOffenderRule] = lambda _: _ORDINARY,
    ) -> None:
        self.addresses = FleetAddresses()
        self._agents: dict[str, ReplayAgent] = {}
        self._used_tokens = used_tokens
        self._escalation = escalation
        self._repeats: dict[str, RepeatOffenderRule] = {}
        for agent in agents:
            self._agents[agent.agent_id] = agent
            self.addresses.set(agent.agent_id, agent.organization_id, agent.site, agent.addresses)

    @property
    def several_tokens(self) -> bool:
        """Whether the agents registered with more than one enrollment token."""
        return self._used_tokens > 1

    def is_in(self, agent_id: str, organization_id: str, /) -> bool:
        """Return whether an agent is or was registered, and in this organization."""
        agent = self._agents.get(agent_id)
        return agent is not None and agent.organization_id == organization_id

    def untimely_reports(self, _agent_ids: Iterable[str], /) -> list[str]:
        """Return nothing: the store does not keep agents' clocks as they were."""
        return []

    def token_of(self, agent_id: str, /) -> str | None:
        """Return the enrollment token that an agent came with."""
        agent = self._agents.get(agent_id)
        return agent.token_id if agent is not None else None

    def registered_at(self, agent_id: str, /) -> float | None:
        """Return when an agent first registered."""
        agent = self._agents.get(agent_id)
        return agent.registered_at if agent is not None else None

    def network_of(self, agent_id: str, /) -> str | None:
        """Return the network that an agent is in."""
        agent = self._agents.get(agent_id)
        return agent.network if agent is not None else None

    def repeat(self, organization_id: str, /) -> RepeatOffenderRule:
        """Return the repeat-offender rule of an organization's policy."""
        if organization_id not in self._repeats:
            self._repeats[organization_id] = self._escalation(organization_id)
        return self._repeats[organization_id]


class Replay:
    """One run of the rules over stored reports.

    Args:
        candidate: the settings to try.
        fleet: the reporting agents.
    """

    def __init__(self, candidate: Candidate, fleet: ReplayFleet) -> None:
        self._fleet = fleet
        self._ids = count(1)
        self._memory = ReplayMemory()
        self._responses: dict[str, Response] = {}
        self._entries: dict[str, list[EmergencyEntry]] = {}
        self._correlator = Correlator(candidate.correlator, self._new_id, self._memory)
        self._allowed = candidate.allowed
        never_block = NeverBlock(
            candidate.allowed, fleet.addresses, EvidenceIndex(), candidate.own_addresses, candidate.admin_networks
        )
        self._responder = Responder(candidate.responder, never_block, self._new_id)
        self._responder.organization_response = candidate.organization_response
        self._next_tick: float | None = None

    def observe(self, kept: StoredReport) -> None:
        """Process the next report, in the order of receipt."""
        report = kept.report
        ignored = ignored_bits(report.indicators(), report.technique, self._allowed)
        report = structs.replace(report, ignored=ignored)
        now = report.received
        self.advance(now)
        note = self._responder.record_evidence(report.organization_id, report.site, report.agent_id, kept.evidence, now)
        self._apply_changes(note)
        for change in self._correlator.observe(report):
            self._decide(change, now)
        self._memory.add_report(report)

    def advance(self, until: float) -> None:
        """Advance the time second by second: close and age incidents, and expire entries."""
        if self._next_tick is None:
            self._next_tick = until
        while self._next_tick <= until:
            if not self._correlator.indicator_count and self._responder.next_expiry() is None:
                self._next_tick += (until - self._next_tick) // _TICK * _TICK  # nothing can happen before
            now = self._next_tick
            for change in self._correlator.expire(now):
                self._decide(change, now)
            self._apply_changes(self._responder.expire(now))
            self._responder.expire_evidence(now)
            self._next_tick += _TICK

    def outcomes(self) -> Iterator[IncidentOutcome]:
        """Yield the outcome of every incident; merged incidents are part of the remaining one."""
        for incident in self._memory.all_incidents():
            if incident.merged_into is None:
                response = self._responses.get(incident.id)
                yield IncidentOutcome.of(incident, response, tuple(self._entries.get(incident.id, ())))

    def _decide(self, change: IncidentChange, now: float) -> None:
        self._memory.add_incident(change.incident)
        if change.absorbed is not None:
            self._memory.add_incident(change.absorbed)
            self._inherit(change.absorbed, change.incident)
        self._apply_changes(self._responder.react(change, self._fleet, now))

    def _inherit(self, absorbed: Incident, incident: Incident) -> None:
        self._entries.setdefault(incident.id, []).extend(self._entries.pop(absorbed.id, ()))

    def _apply_changes(self, response_changes: ResponseChanges) -> None:
        for response in response_changes.responses:
            self._responses[response.incident_id] = response
        for entry in response_changes.added:
            self._entries.setdefault(entry.incident_id, []).append(entry)

    def _new_id(self) -> str:
        return f"replayed-{next(self._ids):08}"


_event_time = attrgetter("event_time")


class ReplayMemory:
    """The `History` of a replay's correlator."""

    def __init__(self) -> None:
        self._reports: dict[Indicator, list[PastReport]] = {}
        self._incidents: dict[str, Incident] = {}
        self._by_indicator: dict[Indicator, dict[str, None]] = {}

    def add_report(self, report: Report) -> None:
        """Add an observed report."""
        past = PastReport(
            report.event_time, report.agent_id, report.received, report.event_time_trusted, report.vouched
        )
        for indicator in report.correlated():
            insort(self._reports.setdefault(indicator, []), past, key=_event_time)

    def add_incident(self, incident: Incident) -> None:
        """Add an incident; the correlator updates the same object."""
        self._incidents[incident.id] = incident
        self._by_indicator.setdefault(incident.indicator, {})[incident.id] = None

    def all_incidents(self) -> Iterable[Incident]:
        """Return every incident, in the order in which they opened."""
        return self._incidents.values()

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Return the reports with start ≤ event time < end, the newest first."""
        known = self._reports.get(indicator, [])
        found = known[bisect_left(known, start, key=_event_time) : bisect_left(known, end, key=_event_time)]
        return reversed(found)

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        """Return copies of the unmerged incidents whose event times touch start ≤ time < end."""
        return [
            replace(incident, members=dict(incident.members), vouched=set(incident.vouched))
            for incident in self._of(indicator)
            if incident.last_seen_at >= start and incident.first_seen_at < end
        ]

    def incident_count(self, indicator: Indicator, before: float, known: Collection[str], /) -> int:
        """Return the number of unmerged incidents that were last seen before a time, except the known ones."""
        return sum(each.last_seen_at < before and each.id not in known for each in self._of(indicator))

    def _of(self, indicator: Indicator) -> Iterator[Incident]:
        found = (self._incidents[incident_id] for incident_id in self._by_indicator.get(indicator, ()))
        return (incident for incident in found if incident.merged_into is None)

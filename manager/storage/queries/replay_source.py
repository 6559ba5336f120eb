"""Replay input read from a store: stored threats, the fleet, and the recorded incidents."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peewee import JOIN, Database, fn

from manager.domain.agents.agent import Door
from manager.domain.correlation import Indicator, Report
from manager.domain.policies.fleet_policies import Policies, Scope, Sections
from manager.domain.replay.outcomes import IncidentOutcome
from manager.domain.replay.replay import ReplayAgent, ReplayFleet, StoredReport
from manager.domain.response import OrganizationResponse, RepeatOffenderRule, ResponseState
from manager.domain.response.organization_step import ORGANIZATION_RESPONSE, address_network, stored_response
from manager.storage.health import StoreHealth
from manager.storage.location import location_of
from manager.storage.queries import policies, threats
from manager.storage.queries.reader import Query, Reader, Record
from manager.storage.tables import (
    AgentTable,
    IncidentMemberTable,
    IncidentResponseTable,
    IncidentTable,
    ThreatTable,
    TokenTable,
)

_THREATS_IN_SLICE = 5000
_SITE = fn.COALESCE(AgentTable.site, AgentTable.reported_site).alias("site")
_LEARNED_FROM = ('"lastLogin"', '"filePath"')
"""Evidence members that the never-block rules learn from; a report without them is not parsed."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The number of threats in a replay, and the last one stored when the replay began."""

    since: float
    last: int
    count: int


class ReplaySource:
    """Reads replay input from a store; a manager may be running on it.

    Args:
        database: opened by `manager.storage.connection.open_reader`.

    Raises:
        StoreUnavailable: by any method, if the database cannot be read or has another release's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._health = StoreHealth(location_of(database))
        self._reader = Reader(database, self._health)

    def extent(self, since: float) -> Extent:
        """Return the extent of the threats received since a time."""
        threat = ThreatTable
        query = threat.select(fn.COUNT(threat.sequence).alias("count"), fn.MAX(threat.sequence).alias("last"))
        (row,) = self._reader.rows(query.where(threat.received_at >= since))
        return Extent(since, row["last"] or 0, row["count"])

    def threats(self, extent: Extent) -> Iterator[StoredReport]:
        """Yield the threats in the order of storing, reading one slice at a time."""
        last = -1
        while rows := self._slice(extent, last):
            for row in rows:
                yield _stored_report(row)
            last = rows[-1][0]

    def documents(self) -> Mapping[Scope, Sections]:
        """Return the current policy documents."""
        return policies.documents(self._reader, policies.revision(self._reader))

    def organization_response(self) -> OrganizationResponse:
        """Return which agents the organization-wide step counts."""
        rows = self._reader.select("meta.get", (ORGANIZATION_RESPONSE,))
        return stored_response(rows[0][0] if rows else None)

    def fleet(self, now: float) -> ReplayFleet:
        """Return all agents, removed ones too, and the escalation settings of the current policies."""
        agent = AgentTable
        query = agent.select(
            agent.agent_id, agent.organization_id, _SITE, agent.token_id, agent.addresses, agent.gateways,
            agent.ip, agent.removed_at, agent.registered_at, agent.door,
        )  # fmt: skip
        used = TokenTable.select(fn.COUNT(TokenTable.token_id).alias("tokens")).where(TokenTable.uses > 0)
        current = Policies()
        current.load(policies.revision(self._reader), self.documents(), now)

        def escalation(organization_id: str) -> RepeatOffenderRule:
            settings = current.of_organization(organization_id, now).sections["response"]["escalation"]
            return RepeatOffenderRule(settings["repeatThreshold"], float(settings["repeatBlockDuration"]))

        agents = [_agent(row) for row in self._reader.rows(query)]
        return ReplayFleet(agents, int(self._reader.rows(used)[0]["tokens"]), escalation)

    def organizations(self) -> set[str]:
        """Return the organizations of all agents, removed ones too."""
        query = AgentTable.select(AgentTable.organization_id).distinct()
        return {row["organization_id"] for row in self._reader.rows(query)}

    def outcomes(self, since: float) -> list[IncidentOutcome]:
        """Return the outcome of the unmerged incidents that were seen since a time."""
        incident, response, member = IncidentTable, IncidentResponseTable, IncidentMemberTable
        counted = member.select(member.incident, fn.COUNT(member.agent_id).alias("agents")).group_by(member.incident)
        agents = {row["incident_id"]: row["agents"] for row in self._reader.rows(counted)}
        query = (
            incident.select(
                incident.id, incident.kind, incident.value, incident.organization_id, incident.site,
                incident.opened_at, incident.first_seen_at, incident.last_seen_at, incident.late, incident.chronic,
                response.state, response.reason, response.organization_wide,
            )
            .join(response, JOIN.LEFT_OUTER, on=(response.incident_id == incident.id))
            .where(incident.merged_into.is_null(), incident.last_seen_at >= since)
            .order_by(incident.opened_at, incident.id)
        )  # fmt: skip
        return [_outcome(row, agents.get(row["id"], 0)) for row in self._reader.rows(query)]

    def _slice(self, extent: Extent, last: int) -> list[tuple[Any, ...]]:
        threat = ThreatTable
        query = _threats().where(
            threat.sequence > last, threat.sequence <= extent.last, threat.received_at >= extent.since
        )
        with self._health.errors("be read"):
            return list(query.order_by(threat.sequence).limit(_THREATS_IN_SLICE).tuples().execute(self._database))


def _threats() -> Query:
    threat, agent = ThreatTable, AgentTable
    return threat.select(
        threat.sequence, agent.agent_id, agent.organization_id, _SITE, threat.threat_id, threat.event_time,
        threat.received_at, threat.source_ip, threat.file_hash, threat.technique, threat.time_known, threat.document,
        threat.vouched,
    ).join(agent, on=(threat.agent == agent.number))  # fmt: skip


def _stored_report(row: tuple[Any, ...]) -> StoredReport:
    (
        _, agent_id, organization_id, site, threat_id, event_time, received, source_ip, file_hash, technique, known,
        document, vouched,
    ) = row  # fmt: skip
    report = Report(
        agent_id,
        organization_id,
        site,
        threat_id,
        event_time,
        received,
        source_ip,
        file_hash,
        technique,
        bool(known),
        vouched=vouched,
    )
    parsed = any(member in document for member in _LEARNED_FROM)
    return StoredReport(report, threats.evidence_of(document) if parsed else {})


def _agent(row: Record) -> ReplayAgent:
    """Return an agent; the addresses of a removed one are not protected."""
    own = [*json.loads(row["addresses"]), *json.loads(row["gateways"]), *([row["ip"]] if row["ip"] else [])]
    addresses = tuple(own) if row["removed_at"] is None else ()
    listed = json.loads(row["addresses"])
    network = address_network(listed[-1:] if row["door"] == Door.HTTP else listed)
    return ReplayAgent(
        row["agent_id"], row["organization_id"], row["site"], row["token_id"], addresses, row["registered_at"], network
    )


def _outcome(row: Record, agents: int) -> IncidentOutcome:
    return IncidentOutcome(
        Indicator(row["kind"], row["value"], row["organization_id"], row["site"]),
        row["opened_at"],
        row["first_seen_at"],
        row["last_seen_at"],
        agents,
        bool(row["late"]),
        bool(row["chronic"]),
        ResponseState(row["state"]) if row["state"] else None,
        row["reason"],
        bool(row["organization_wide"]),
    )

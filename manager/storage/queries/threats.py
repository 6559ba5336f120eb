"""Threats as the API shows them: the report as the agent sent it, with where and when the manager puts it."""

import json
import math
from typing import Any, NamedTuple

from peewee import Expression

from manager.storage.queries.reader import Page, Query, Reader, Record, moment
from manager.storage.tables import AgentTable, ThreatTable

RECENT = 10
"""How many threats an agent's own record shows."""

_DIGITS = 300


class ThreatFilter(NamedTuple):
    """Which threats are wanted; None is any. `since` is when the manager received them, in seconds since 1970."""

    since: float | None = None
    severity: str | None = None
    type: str | None = None
    organization_id: str | None = None
    agent_id: str | None = None

    def conditions(self) -> list[Expression]:
        """Return what the rows must meet."""
        wanted = []
        if self.since is not None:
            wanted.append(ThreatTable.received_at >= self.since)
        if self.severity is not None:
            wanted.append(ThreatTable.severity == self.severity)
        if self.type is not None:
            wanted.append(ThreatTable.type == self.type)
        if self.organization_id is not None:
            wanted.append(AgentTable.organization_id == self.organization_id)
        if self.agent_id is not None:
            wanted.append(AgentTable.agent_id == self.agent_id)
        return wanted


def page(reader: Reader, wanted: ThreatFilter, limit: int, cursor: str | None) -> Page:
    """Return threats, the last stored first, of removed agents too."""
    query = _selection()
    conditions = wanted.conditions()
    if conditions:
        query = query.where(*conditions)
    return reader.page(query, ThreatTable.sequence, record_of, limit, cursor)


def recent(reader: Reader, agent_id: str) -> list[Record]:
    """Return an agent's newest threats."""
    return page(reader, ThreatFilter(agent_id=agent_id), RECENT, None)[0]


def _selection() -> Query:
    threat, agent = ThreatTable, AgentTable
    return threat.select(
        threat.sequence, threat.threat_id, threat.event_time, threat.received_at, threat.time_known, threat.document,
        agent.agent_id, agent.hostname, agent.organization_id,
    ).join(agent, on=(threat.agent == agent.number))  # fmt: skip


def record_of(row: Record) -> Record:
    """Return a threat's record: the report's own members, overlaid with what the manager knows for certain."""
    return {
        **_report(row["document"]),
        "id": row["threat_id"],
        "agentId": row["agent_id"],
        "hostname": row["hostname"],
        "organizationId": row["organization_id"],
        "eventTime": moment(row["event_time"]),
        "receivedAt": moment(row["received_at"]),
        "timeKnown": bool(row["time_known"]),
    }


def evidence_of(document: str) -> Record:
    """Return the evidence of a stored report."""
    return dict(_report(document)["threat"].get("evidence") or {})


def _report(document: str) -> Record:
    """Read a stored report. Evidence is free-form: a number that JSON cannot carry on becomes null."""
    report: Any = json.loads(document, parse_float=_finite, parse_int=_whole, parse_constant=lambda _: None)
    return dict(report)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= _DIGITS else None

"""Threats as the API shows them: the report as the agent sent it, with where and when the manager puts it."""

import json
import math
from itertools import islice
from typing import Any, NamedTuple

from peewee import Expression

from manager.storage.queries.reader import Page, Query, Reader, Record, cursor_after, moment, read_cursor
from manager.storage.tables import AgentTable, ThreatTable
from manager.storage.threat_index import search
from manager.storage.threat_index.search import ThreatIndexSearch

RECENT = 10
"""How many threats an agent's own record shows."""

_DIGITS = 300
_HIGHEST = 2**63 - 1


class ThreatFilter(NamedTuple):
    """Which threats are wanted; None is any. `since` is when the manager received them, in seconds since 1970."""

    since: float | None = None
    severity: str | None = None
    type: str | None = None
    organization_id: str | None = None
    agent_id: str | None = None


def page(reader: Reader, wanted: ThreatFilter, limit: int, cursor: str | None) -> Page:
    """Return threats, the last stored first, of removed agents too.

    The newest are read one by one; behind them stand slices, whose marks tell which threats are worth reading.
    """
    below = _HIGHEST if cursor is None else read_cursor(cursor, int)[0]
    known = _known(reader, wanted)
    if known is None:
        return [], None
    sliced = search.sliced(reader)
    rows = []
    if below > sliced + 1:
        rows = _walk(reader, known, limit + 1, sliced, below)
    if len(rows) <= limit and sliced:
        rows += _behind(reader, known, limit + 1 - len(rows), min(below, sliced + 1))
    following = cursor_after(rows[limit - 1]["sequence"]) if len(rows) > limit else None
    return [record_of(row) for row in rows[:limit]], following


def recent(reader: Reader, agent_id: str) -> list[Record]:
    """Return an agent's newest threats."""
    return page(reader, ThreatFilter(agent_id=agent_id), RECENT, None)[0]


def _known(reader: Reader, wanted: ThreatFilter) -> ThreatIndexSearch | None:
    """Return what is wanted with the number of its agent; None if no threat can be that."""
    if wanted.agent_id is None:
        return ThreatIndexSearch(wanted.since, wanted.severity, wanted.type, wanted.organization_id)
    found = reader.select("SELECT number, organization_id FROM agent WHERE agent_id = ?", (wanted.agent_id,))
    if not found or wanted.organization_id not in {None, found[0][1]}:
        return None
    return ThreatIndexSearch(wanted.since, wanted.severity, wanted.type, wanted.organization_id, found[0][0])


def _behind(reader: Reader, wanted: ThreatIndexSearch, limit: int, below: int) -> list[Record]:
    """Return sliced threats below a sequence."""
    if wanted.values() or wanted.agent_number is not None:
        found = list(islice(search.newest(reader, wanted, below), limit))
        return reader.rows(_selection().where(ThreatTable.sequence.in_(found)).order_by(ThreatTable.sequence.desc()))
    lowest = 0 if wanted.since is None else search.lowest_since(reader, wanted.since)
    return [] if lowest is None else _walk(reader, wanted, limit, lowest - 1, below)


def _walk(reader: Reader, wanted: ThreatIndexSearch, limit: int, after: int, below: int) -> list[Record]:
    """Return threats between two sequences, looking at each."""
    threat = ThreatTable
    conditions: list[Expression] = [threat.sequence > after, threat.sequence < below]
    if wanted.since is not None:
        conditions.append(threat.received_at >= wanted.since)
    if wanted.severity is not None:
        conditions.append(threat.severity == wanted.severity)
    if wanted.type is not None:
        conditions.append(threat.type == wanted.type)
    if wanted.organization_id is not None:
        conditions.append(AgentTable.organization_id == wanted.organization_id)
    if wanted.agent_number is not None:
        conditions.append(threat.agent == wanted.agent_number)
    return reader.rows(_selection().where(*conditions).order_by(threat.sequence.desc()).limit(limit))


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

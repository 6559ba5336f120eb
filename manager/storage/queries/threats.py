"""Threat records for the API: the agent's report with the manager's event time and time of receipt."""

import json
import math
from collections.abc import Collection, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from peewee import JOIN, Expression, Field, fn

from manager.domain.correlation.indicators import indicators_of
from manager.domain.correlation.reports import WINDOW
from manager.storage.queries.reader import Page, Query, Reader, Record, cursor_after, moment, read_cursor
from manager.storage.tables import AgentTable, RecognizedThreatTable, ThreatTable
from manager.storage.threat_index import search
from manager.storage.threat_index.search import ThreatIndexSearch
from schemas.threats import Severity

RECENT = 10
"""The maximum number of threats in an agent's own record."""

_MOST_CORRELATED = 20
_NAMESAKES = 20
_CORRELATED = {"source_ip": "threats.correlated_by_source_ip", "file_hash": "threats.correlated_by_file_hash"}
_CONCLUSIONS = {Severity.LOW.value: "suspicious", Severity.MEDIUM.value: "suspicious"}
_DIGITS = 300
_HIGHEST = 2**63 - 1
_MATCHES = 1000


class ThreatFilter(NamedTuple):
    """Filters of threats; None matches any. `since` is the time of receipt by the manager, in seconds since 1970.

    `recognized` is whether a person recognized the threat as their own doing.
    """

    since: float | None = None
    severity: str | None = None
    type: str | None = None
    organizations: Collection[str] | None = None
    agent_id: str | None = None
    recognized: bool | None = None


class Search(NamedTuple):
    """The filters with the agent's number in place of its id."""

    since: float | None
    severity: str | None
    type: str | None
    organizations: Collection[str] | None
    agent_number: int | None = None
    recognized: bool | None = None


def page(reader: Reader, wanted: ThreatFilter, limit: int, cursor: str | None) -> Page:
    """Return threats, the last stored first; those of removed agents, too.

    The newest threats are scanned; older ones are found by the threat index.
    """
    below = _HIGHEST if cursor is None else read_cursor(cursor, int)[0]
    filters = search_of(reader, wanted)
    if filters is None:
        return [], None
    indexed = search.last_indexed(reader)
    rows = []
    if below > indexed + 1:
        rows = _scan(reader, filters, limit + 1, indexed, below)
    if len(rows) <= limit and indexed:
        rows += _indexed(reader, filters, limit + 1 - len(rows), min(below, indexed + 1))
    following = cursor_after(rows[limit - 1]["sequence"]) if len(rows) > limit else None
    shown = rows[:limit]
    return records_of(reader, shown), following


def recent(reader: Reader, agent_id: str) -> list[Record]:
    """Return an agent's newest threats."""
    return page(reader, ThreatFilter(agent_id=agent_id), RECENT, None)[0]


def search_of(reader: Reader, wanted: ThreatFilter) -> Search | None:
    """Return the filters with the agent's number; None if no threat can match."""
    if wanted.agent_id is None:
        return Search(*wanted[:4], recognized=wanted.recognized)
    number = agent_number(reader, wanted.agent_id, wanted.organizations)
    return None if number is None else Search(*wanted[:3], None, number, wanted.recognized)


def agent_number(reader: Reader, agent_id: str, organizations: Collection[str] | None) -> int | None:
    """Return the number of an agent, a removed one too; None if it is unknown or of another organization."""
    found = reader.select("agents.number_and_organization", (agent_id,))
    if not found or (organizations is not None and found[0][1] not in organizations):
        return None
    return int(found[0][0])


def find(
    reader: Reader, threat_id: str, agent_id: str | None, organizations: Collection[str] | None = None
) -> list[Record]:
    """Return the threats with an id: of one agent, or of each that gave this id to a report."""
    conditions = [ThreatTable.threat_id == threat_id]
    if agent_id is not None:
        conditions.append(AgentTable.agent_id == agent_id)
    if organizations is not None:
        conditions.append(AgentTable.organization_id.in_(list(organizations)))
    rows = reader.rows(selection().where(*conditions).order_by(ThreatTable.sequence).limit(_NAMESAKES))
    return records_of(reader, rows)


def _indexed(reader: Reader, wanted: Search, limit: int, below: int) -> list[Record]:
    """Return threats of the index below a sequence."""
    if any(each is not None for each in wanted[1:]):
        sequences, rows = _matching(reader, wanted, below), list[Record]()
        current = conditions_of(wanted, ThreatTable.received_at)  # an agent may have moved since the slice was written
        while len(rows) < limit and (found := list(islice(sequences, max(limit, _MATCHES) if rows else limit))):
            query = selection().where(ThreatTable.sequence.in_(found), *current)
            rows += reader.rows(query.order_by(ThreatTable.sequence.desc()))
        return rows[:limit]
    lowest = 0 if wanted.since is None else search.first_since(reader, wanted.since)
    return [] if lowest is None else _scan(reader, wanted, limit, lowest - 1, below)


def _matching(reader: Reader, wanted: Search, below: int) -> Iterator[int]:
    """Yield the matching sequences, newest first; a threat belongs to one organization, so their lists are disjoint."""
    since, severity, type_, organizations, agent_number, _ = wanted
    each = [None] if organizations is None else sorted(set(organizations))
    searches = (ThreatIndexSearch(since, severity, type_, organization, agent_number) for organization in each)
    return merge(*(search.matching(reader, one, below) for one in searches), reverse=True)


def _scan(reader: Reader, wanted: Search, limit: int, after: int, below: int) -> list[Record]:
    """Return threats between two sequences by scanning them."""
    threat = ThreatTable
    conditions = [threat.sequence > after, threat.sequence < below, *conditions_of(wanted, threat.received_at)]
    return reader.rows(selection().where(*conditions).order_by(threat.sequence.desc()).limit(limit))


def conditions_of(wanted: Search, time: Field) -> list[Expression]:
    """Return the WHERE conditions of filters; `time` is the column that `since` is about."""
    threat = ThreatTable
    conditions: list[Expression] = []
    if wanted.since is not None:
        conditions.append(time >= wanted.since)
    if wanted.severity is not None:
        conditions.append(threat.severity == wanted.severity)
    if wanted.type is not None:
        conditions.append(threat.type == wanted.type)
    if wanted.organizations is not None:
        conditions.append(AgentTable.organization_id.in_(list(wanted.organizations)))
    if wanted.agent_number is not None:
        conditions.append(threat.agent == wanted.agent_number)
    if wanted.recognized is not None:
        conditions.append(RecognizedThreatTable.at.is_null(not wanted.recognized))
    return conditions


def selection() -> Query:
    """Return the query of threats with the members of their agents that records need."""
    threat, agent, recognized = ThreatTable, AgentTable, RecognizedThreatTable
    same = (recognized.threat_id == threat.threat_id) & (recognized.agent_id == agent.agent_id)
    query = threat.select(
        threat.sequence, threat.threat_id, threat.event_time, threat.received_at, threat.time_known, threat.document,
        threat.source_ip, threat.file_hash, agent.number, agent.agent_id, agent.hostname, agent.organization_id,
        fn.COALESCE(agent.site, agent.reported_site).alias("site"), recognized.at.alias("recognized_at"),
        recognized.author.alias("recognized_by"), recognized.note.alias("recognized_note"),
    ).join(agent, on=(threat.agent == agent.number))  # fmt: skip
    return query.join_from(threat, recognized, JOIN.LEFT_OUTER, on=same)


def records_of(reader: Reader, rows: Sequence[Record]) -> list[Record]:
    """Return the records of threats, each with the ids of the threats that it is correlated with."""
    return [record_of(row, correlated) for row, correlated in zip(rows, _correlated(reader, rows), strict=True)]


def _correlated(reader: Reader, rows: Sequence[Record]) -> list[list[str]]:
    """Return the ids of other agents' threats that share each threat's source address or file hash within 300 s.

    Returns at most 20 ids of each and examines at most 200 threats for each value. A private address counts within its
    site.
    """
    found: list[dict[str, None]] = [{} for _ in rows]
    asked: dict[str, list[tuple[int, dict[str, Any]]]] = {kind: [] for kind in _CORRELATED}
    for place, row in enumerate(rows):
        for each in indicators_of(row["organization_id"], row["site"], row["source_ip"], row["file_hash"], None):
            params = {
                "value": each.value,
                "start": row["event_time"] - WINDOW,
                "end": row["event_time"] + WINDOW,
                "agent": row["number"],
                "organization_id": each.organization_id,
                "site": each.site,
                "most": _MOST_CORRELATED,
            }
            asked[each.kind].append((place, params))
    for kind, name in _CORRELATED.items():
        answers = reader.select_each(name, [params for _, params in asked[kind]])
        for (place, _), answer in zip(asked[kind], answers, strict=True):
            found[place].update((threat_id, None) for (threat_id,) in answer)
    return [list(each)[:_MOST_CORRELATED] for each in found]


def record_of(row: Record, correlated_ids: Sequence[str] = ()) -> Record:
    """Return a threat's record: the report's members, overridden by those that the manager determined.

    `type`, `severity`, `confidence` and `details` repeat the threat's own members, and `originalThreat` is the threat
    as `{event, verdict}`: two more shapes that earlier clients read.
    """
    report = _report(row["document"])
    threat = report["threat"]
    evidence, severity = threat.get("evidence") or {}, threat.get("severity", Severity.MEDIUM)
    return {
        **report,
        "id": row["threat_id"],
        "agentId": row["agent_id"],
        "sourceAgentId": row["agent_id"],
        "hostname": row["hostname"],
        "sourceHostname": row["hostname"],
        "type": threat["type"],
        "severity": severity,
        "confidence": threat["confidence"],
        "details": evidence,
        "correlatedWith": correlated_ids,
        "originalThreat": _event_and_verdict(row, report, evidence, severity),
        "organizationId": row["organization_id"],
        "eventTime": moment(row["event_time"]),
        "receivedAt": moment(row["received_at"]),
        "timeKnown": bool(row["time_known"]),
        "recognized": _recognition(row),
    }


def _recognition(row: Record) -> Record | None:
    """Return who recognized a threat as their own doing, when, and with which note; None if nobody did."""
    if row["recognized_at"] is None:
        return None
    return {"at": moment(row["recognized_at"]), "by": row["recognized_by"], "note": row["recognized_note"]}


def _event_and_verdict(row: Record, report: Record, evidence: Record, severity: str) -> Record:
    threat, response = report["threat"], report.get("response")
    event = {
        "id": row["threat_id"],
        "timestamp": report["timestamp"],
        "source": evidence.get("source", "guard"),
        "severity": severity,
        "category": threat.get("technique") or threat["type"],
        "description": evidence.get("description", threat["type"]),
        "raw": evidence.get("raw"),
        "host": evidence.get("host", row["hostname"]),
        "metadata": evidence,
    }
    conclusion = evidence.get("conclusion", _CONCLUSIONS.get(severity, "malicious"))
    action = response.get("action") if isinstance(response, dict) else response
    return {"event": event, "verdict": {"conclusion": conclusion, "confidence": threat["confidence"], "action": action}}


def evidence_of(document: str) -> Record:
    """Return the evidence of a stored report."""
    return dict(_report(document)["threat"].get("evidence") or {})


def _report(document: str) -> Record:
    """Parse a stored report; a number in the evidence that JSON cannot represent becomes null."""
    report: Any = json.loads(document, parse_float=_finite, parse_int=_whole, parse_constant=lambda _: None)
    return dict(report)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= _DIGITS else None
